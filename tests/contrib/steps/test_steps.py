"""Steps: results that are stored once, and calls that are not made again."""

import asyncio
import json
import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import DataError, OperationalError, connection, transaction
from django.utils import timezone

from notifications.api import policy, task
from notifications.contrib.steps import astep, step
from notifications.contrib.steps.models import Step
from notifications.contrib.steps.testing import steps as stored_steps
from notifications.jobs import retry
from notifications.models import Attempt, Job
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.steps import step_tasks
from tests.contrib.steps.step_tasks import Down, _hold, apay, calls, pay
from tests.jobs.conftest import until_done
from tests.support.shown_jobs import show_job
from tests.support.statements import preceded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.database_law


@task
@policy(max_attempts=3, retry_on=(Down,))
async def fail_in_the_third(failures):
    first = await astep("first", pay, "first")
    second = await astep("second", apay, "second")
    if calls.count("third") < failures:
        calls.append("third")
        raise Down
    third = await astep("third", apay, "third")
    return [first, second, third]


@task
@policy(max_attempts=5, retry_on=(Down,))
async def use_new_names():
    """Each attempt uses other names, as of what the time is."""
    for _ in range(5):
        await astep(str(uuid4()), pay, "again")
    raise Down


@task
@policy(redact=("iban",))
def keep_secrets():
    step("account", pay, "account", result={"iban": "DE02", "bank": "Ada's"})
    step("api token", pay, "token", result="s3cret")


@task
async def twice():
    await astep("same", pay, "same")
    await astep("same", pay, "same")


@task
def in_transaction():
    with transaction.atomic():
        step("first", pay, "first")


@task
async def sync_step_in_async_task():
    step("first", pay, "first")


@task
def async_function():
    step("first", apay, "first")


@task
async def return_anything(value):
    values = {"large": "x" * 2_000_000, "nul": "a\0b", "set": {1}, "nan": float("nan")}
    await astep("first", pay, "first", values[value])


@task
async def hold_in_step(name="held"):
    return await astep(name, _hold, name)


def run(task, *args):
    """Run a job inline and return its row and, if it failed, the traceback of its last attempt."""
    result = task.enqueue(*args)
    run_until_idle()
    job = Job.objects.get(id=result.id)
    attempt = Attempt.objects.filter(job=job).last()
    return job, attempt.traceback if attempt else ""


def test_stored_steps_are_not_called_again(worker, calls):
    (job,) = until_done(fail_in_the_third.enqueue(1))
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert json.loads(job.result) == [{"paid": "first"}, {"paid": "second"}, {"paid": "third"}]
    assert calls == ["first", "second", "third", "third"]
    assert [(step.name, step.attempt) for step in Step.objects.order_by("id")] == [
        ("first", 1),
        ("second", 1),
        ("third", 2),
    ]
    step = Step.objects.get(name="third")
    assert job.started_at <= step.started_at <= step.ended_at <= job.finished_at


def test_steps_of_sync_tasks(worker, calls):
    """A tuple is a list in every attempt; what raises is not stored."""
    (job,) = until_done(step_tasks.fail_in_the_second.enqueue())
    assert (job.state, job.result, job.attempt) == ("succeeded", '[[1,2],{"paid":"second"}]', 2)
    assert calls == ["first", "second", "second"]


def test_steps_side_by_side(worker, calls):
    (job,) = until_done(step_tasks.side_by_side.enqueue(250))
    assert job.state == "succeeded"
    assert Step.objects.count() == len(calls) == 250


def test_inline(db, calls):
    result = fail_in_the_third.enqueue(2)
    assert run_until_idle() == 3
    result.refresh()
    assert result.return_value == [{"paid": "first"}, {"paid": "second"}, {"paid": "third"}]
    assert calls == ["first", "second", "third", "third", "third"]
    calls.clear()
    sync = step_tasks.fail_in_the_second.enqueue()
    run_until_idle()
    assert stored_steps(sync) == {"first": [1, 2], "second": {"paid": "second"}}
    assert calls == ["first", "second", "second"]


def test_outside_of_a_job(db, calls):
    """The function is called each time, with the same rules for name and result, and nothing is stored."""
    assert step("first", step_tasks.pay, "first", (1,)) == [1]
    assert step("first", step_tasks.pay, "first") == {"paid": "first"}
    assert asyncio.run(astep("first", step_tasks.apay, "again")) == {"paid": "again"}
    for name, error in (("", "empty"), ("a\0", "NUL"), ("x" * 201, "201 characters")):
        with pytest.raises(ValueError, match=error):
            step(name, step_tasks.pay, "never")
    with pytest.raises(TypeError, match=r"step 'bad' was made, but its result cannot be written as JSON"):
        step("bad", step_tasks.pay, "bad", {1})
    assert calls == ["first", "first", "again", "bad"]
    assert not Step.objects.exists()


@pytest.mark.parametrize(
    ("task", "args", "error"),
    [
        (twice, (), "The name 'same' was used before in this attempt"),
        (sync_step_in_async_task, (), "Use await astep()"),
        (async_function, (), "is async, which step() cannot call"),
        (return_anything, ("large",), "has 2000002 bytes of JSON. At most 1048576"),
        (return_anything, ("nul",), "contains NUL"),
        (
            return_anything,
            ("set",),
            "step 'first' was made, but its result cannot be written as JSON",
        ),
        (
            return_anything,
            ("nan",),
            "step 'first' was made, but its result cannot be written as JSON",
        ),
    ],
)
def test_wrong_uses(db, task, args, error):
    job, traceback = run(task, *args)
    assert job.state == "failed"
    assert error in traceback


def test_in_a_transaction(worker, calls):
    (job,) = until_done(in_transaction.enqueue())
    assert job.state == "failed"
    assert "step() was called inside a transaction" in Attempt.objects.get(job=job).traceback
    assert not calls


@pytest.fixture
def nine_steps(monkeypatch):
    """A job may have nine steps."""
    monkeypatch.setattr("notifications.jobs.durable_calls.MAX_STEPS", 9)


def test_too_many_steps(db, nine_steps):
    job, traceback = run(step_tasks.ten_steps)
    assert "The job has 9 steps and waits, and may not have more" in traceback
    assert Step.objects.filter(job=job.id).count() == 9


def test_too_many_steps_of_several_attempts(db, nine_steps):
    job, traceback = run(use_new_names)
    assert "The job has 9 steps and waits, and may not have more" in traceback
    assert Step.objects.filter(job=job.id).count() == 10 and job.attempt == 3


def test_a_claim_that_is_void_stores_nothing(worker, calls):
    """Another worker has claimed the job while a step ran: the attempt ends, and the next one makes the call."""
    result = step_tasks.hold_in_sync_step.enqueue()
    wait_until(step_tasks.entered.is_set, what="the step to begin")
    Job.objects.filter(id=result.id).update(fence=7)
    step_tasks.go_on.set()
    wait_until(lambda: not worker.worker.state.executions, what="the attempt to end")
    assert not Step.objects.exists()
    assert calls == ["held"]
    assert Job.objects.get(id=result.id).state == "running"


def test_the_stored_result_wins(worker):
    """Another result is stored while the function runs, as by a write whose answer was lost."""
    result = hold_in_step.enqueue()
    wait_until(step_tasks.entered.is_set, what="the step to begin")
    now = timezone.now()
    Step.objects.create(job=result.id, name="held", result='"first"', attempt=1, started_at=now, ended_at=now)
    step_tasks.go_on.set()
    (job,) = until_done(result)
    assert job.result == '"first"'
    assert Step.objects.get().result == '"first"'


def test_retry_by_hand_keeps_steps_and_from_start_deletes_them(transactional_db, calls):
    result = fail_in_the_third.enqueue(4)
    run_until_idle()
    assert Job.objects.get().state == "failed"
    assert retry([result.id])
    assert Job.objects.get().state == "queued"
    run_until_idle()
    assert Job.objects.get().state == "succeeded"
    assert calls.count("first") == 1
    Job.objects.update(state="failed")
    assert retry([Job.objects.get().id], from_start=True)
    assert not Step.objects.exists()
    run_jobs()
    assert calls.count("first") == 2


def test_pruned_with_their_jobs(db, set_bounds):
    """Those of many jobs in several transactions, and only those of a job with too many before the job."""
    set_bounds(rows=25)
    for _ in range(4):
        step_tasks.ten_steps.enqueue()
    step_tasks.side_by_side.enqueue(30)
    kept = step_tasks.ten_steps.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    run_jobs()
    assert Step.objects.count() == 70
    Step.objects.create(
        job=kept.id, name="kept", result="1", attempt=1, started_at=timezone.now(), ended_at=timezone.now()
    )
    left = []
    steps = "DELETE FROM .?notifications_steps_step"
    with preceded(steps, lambda: left.append((Step.objects.count(), Job.objects.count())), times=None):
        call_command("notifications", "prune", days=0)
    assert left == [(71, 6), (51, 4), (41, 3), (31, 2), (6, 2)]
    assert str(Job.objects.get().id) == kept.id
    assert [step.name for step in Step.objects.all()] == ["kept"]


def test_steps_stay_until_their_jobs_are_deleted(transactional_db, calls, set_bounds):
    """Or a job that is retried by hand while others are pruned would make calls again."""
    set_bounds(rows=15)
    jobs = [step_tasks.ten_steps.enqueue() for _ in range(3)]
    run_jobs()
    Job.objects.update(state="failed")
    deletions = iter([0, 1])

    def fail_at_the_second():
        if next(deletions):
            raise DataError

    jobs_deleted = preceded("DELETE FROM .notifications_job.", fail_at_the_second, times=None)
    with jobs_deleted, pytest.raises(CommandError, match="Not all rows were deleted"):
        call_command("notifications", "prune", days=0)
    assert len(retry([UUID(job.id) for job in jobs])) == Job.objects.count() == 2
    run_jobs()
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}
    assert len(calls) == 30


def test_a_failed_read_of_steps_makes_no_call_again(transactional_db, calls):
    """The attempt fails in its place, or waits, where a worker executes it."""

    def fail_once(execute, sql, *args):
        if sql.startswith("SELECT") and '"notifications_steps_step"."attempt"' in sql and not failed:
            failed.append(sql)
            raise OperationalError("database is locked")
        return execute(sql, *args)

    failed = []
    step_tasks.fail_in_the_second.enqueue()
    with connection.execute_wrapper(fail_once):
        run_until_idle()
    assert failed and calls.count("first") == 1


def test_on_pages_and_in_commands(client, user, capsys, transactional_db):
    """The owner sees names and times; staff with the permission, and the terminal, results without secrets."""
    result = keep_secrets.using(owner=user).enqueue()
    run_jobs()
    client.force_login(user)
    text = client.get(f"/notifications/jobs/{result.id}/").text
    assert "account" in text and re.search(r"\b\d+\sms\b", text)
    assert "Ada" not in text and "DE02" not in text
    call_command("notifications", "jobs", "show", str(result.id))
    out = capsys.readouterr().out
    shown = """, {"iban": "•••", "bank": "Ada's"}"""
    assert re.search(r"account: attempt 1, \d+\.\d\d s" + re.escape(shown), out)
    assert "s3cret" not in out
    call_command("notifications", "jobs", "show", str(result.id), "--json")
    shown = json.loads(capsys.readouterr().out)["steps"]
    assert [(step["name"], step["attempt"]) for step in shown] == [("account", 1), ("api token", 1)]


@pytest.mark.parametrize("may", [True, False])
def test_in_the_admin(client, django_user_model, transactional_db, may):
    staff = django_user_model.objects.create_user("staff", is_staff=True)
    names = ["view_job", *["view_job_arguments"] * may]
    staff.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(staff)
    result = keep_secrets.enqueue()
    run_jobs()
    text = client.get(f"/admin/notifications/job/{result.id}/change/").text
    assert ">api token</th>" in text
    assert ("bank" in text) is may
    assert "DE02" not in text and "s3cret" not in text


def test_long_lists_and_large_results(db, capsys):
    job, _ = run(step_tasks.ten_steps)
    fields = {"job": job.id, "attempt": 1, "started_at": job.finished_at, "ended_at": job.finished_at}
    results = (f'"{"x" * length}"' for length in range(19_990, 20_190))
    Step.objects.bulk_create(
        Step(name=f"{number}", result=result, **fields) for number, result in enumerate(results)
    )
    steps = show_job(job.id)["steps"]
    assert [step["name"] for step in steps] == [f"step {number}" for number in range(10)] + [
        f"{number}" for number in range(190)
    ]
    assert steps[18]["result"].startswith('"xx') and steps[19]["result"] == "20,001 characters of JSON"
    call_command("notifications", "jobs", "show", str(job.id))
    assert "Steps: 210" in capsys.readouterr().out


def test_assertions_of_tests(db):
    result = step_tasks.fail_in_the_second.enqueue()
    run_until_idle()
    assert stored_steps(result) == {"first": [1, 2], "second": {"paid": "second"}}
    assert stored_steps(str(result.id)) == stored_steps(result)

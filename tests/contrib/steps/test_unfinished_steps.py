"""Calls of steps that have stored no result: they run, or have raised."""

import asyncio
import re
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import DataError, connection, transaction
from django.utils import timezone

from notifications.api import apause, policy, task
from notifications.contrib.steps import astep
from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.jobs import cancel, retry
from notifications.models import Job, Wait
from notifications.testing import run_until_idle
from tests.contrib.steps import step_tasks
from tests.contrib.steps.step_tasks import Down, apay, go_on
from tests.jobs.conftest import until_done
from tests.support.shown_jobs import show_job
from tests.support.statements import refused
from tests.support.waiting import skip_time, wait_until

pytestmark = pytest.mark.database_law


@task
async def many_steps(count):
    for number in range(count):
        await astep(f"step {number}", apay, number)


async def until_shown(count=1):
    """Wait until so many calls are stored as ones that run."""
    while await UnfinishedStep.objects.filter(ended_at=None).acount() < count:  # noqa: ASYNC110 (rows)
        await asyncio.sleep(0.05)


async def _sleep_and_fail(seconds):
    await asyncio.sleep(seconds)
    raise Down


async def _fail_when_shown(count):
    await until_shown(count)
    raise Down


@task
async def fail_beside_another():
    """The other call has been stored as one that runs, and goes on after the end."""
    await asyncio.gather(astep("charge", _fail_when_shown, 2), astep("label", asyncio.sleep, 60))


@task
async def fail_beside_a_step():
    label = asyncio.create_task(astep("label", asyncio.sleep, 60))
    await asyncio.wait([label, asyncio.create_task(until_shown())], return_when=asyncio.FIRST_COMPLETED)
    raise Down


@task
async def fail_in_a_group():
    """The other call is cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(astep("charge", _sleep_and_fail, 0.2))
        group.create_task(astep("label", asyncio.sleep, 60))


@task
@policy(timeout=60)
async def time_out_after_a_failure():
    await fail_and_go_on()
    label = asyncio.create_task(astep("label", asyncio.sleep, 600))
    await until_shown()
    await skip_time(60)
    await label


@task
async def fail_elsewhere():
    await fail_and_go_on()
    await astep("upload", apay, "upload")
    raise KeyError("total")


async def fail_and_go_on():
    with suppress(Down):
        await astep("thumbnail", _sleep_and_fail, 0)


@task
async def go_on_after_a_timeout():
    """The call has been stored as one that runs when it is cancelled."""
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            await astep("slow", asyncio.sleep, 600)
    await asyncio.to_thread(go_on.wait, 60)


@task
async def pause_beside_a_step():
    """The call is cancelled because the job is suspended."""
    async with asyncio.TaskGroup() as group:
        group.create_task(astep("label", asyncio.sleep, 60))
        await until_shown()
        await apause("nap", timedelta(days=1))


@task
async def go_on_when_cancelled():
    with suppress(asyncio.CancelledError):
        await astep("slow", asyncio.sleep, 60)


def shown(job):
    return [(step["name"], step["attempt"], step["state"]) for step in show_job(job.id)["steps"]]


def test_a_call_that_takes_long_is_shown_while_it_runs(worker, user):
    """The version of the job rises when it is stored, and when the call has ended: that rings for the owner."""
    result = step_tasks.hold_in_sync_step.using(owner=user).enqueue()
    wait_until(lambda: UnfinishedStep.objects.exists(), what="the call to be stored")
    wait_until(lambda: Job.objects.get().version == 3, what="a ring")
    job = Job.objects.get()
    assert shown(job) == [("held", 1, "running")]
    step_tasks.go_on.set()
    (job,) = until_done(result)
    assert shown(job) == [("held", 1, "returned"), ("after", 1, "returned")]
    assert not UnfinishedStep.objects.exists()


def test_a_call_that_has_raised_stays(worker):
    """Beside that of the later attempt, which has returned."""
    (job,) = until_done(step_tasks.fail_in_the_second.enqueue())
    assert shown(job) == [("first", 1, "returned"), ("second", 1, "failed"), ("second", 2, "returned")]
    assert retry([job.id], from_start=True) == []  # it has succeeded
    Job.objects.update(state="failed")
    retry([job.id], from_start=True)
    assert not UnfinishedStep.objects.exists()


def test_a_call_that_runs_is_not_hidden_by_later_failures(worker, admin_client):
    """The newest are shown, and a note says that they are not all."""
    result = step_tasks.hold_in_sync_step.enqueue()
    wait_until(lambda: UnfinishedStep.objects.exists(), what="the call to be stored")
    job = Job.objects.get()
    of_attempt = {"job": job.id, "attempt": 1, "fence": job.fence, "started_at": job.started_at}
    failed = [UnfinishedStep(name=f"{n}", ended_at=timezone.now(), **of_attempt) for n in range(60)]
    UnfinishedStep.objects.bulk_create(failed)
    steps = {(name, state) for name, _, state in shown(job)}
    assert steps == {("held", "running")} | {(f"{n}", "failed") for n in range(11, 60)}
    assert "Steps: the first 50 of 61" in admin_client.get(f"/admin/notifications/job/{job.id}/change/").text
    step_tasks.go_on.set()
    until_done(result)


def test_a_call_that_runs_is_found_behind_any_number_of_others(worker, set_bounds):
    """The first of them stay where they are while another transaction holds the row of their job."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks no rows.")
    set_bounds(rows=1)
    is_locked, may_end = threading.Event(), threading.Event()

    def lock():
        with transaction.atomic():
            list(Job.objects.filter(id=result.id).select_for_update())
            is_locked.set()
            may_end.wait(60)
        connection.close()

    result = step_tasks.hold_in_sync_step.enqueue("locked")
    wait_until(lambda: step_tasks.calls == ["locked"], what="the first call")
    locking = threading.Thread(target=lock)
    locking.start()
    is_locked.wait(60)
    others = [step_tasks.hold_in_sync_step.enqueue(f"other {number}") for number in range(3)]
    wait_until(lambda: UnfinishedStep.objects.count() == 3, timeout=20, what="the others to be stored")
    may_end.set()
    locking.join()
    step_tasks.go_on.set()
    until_done(result, *others)


def test_a_wait_that_is_open_is_found_behind_any_number_of_others(user, capsys):
    """And shown, where there are more than the list has."""
    now = timezone.now()
    job = Job.objects.get(pk=step_tasks.ten_steps.using(owner=user).enqueue().id)
    Job.objects.update(state="waiting", started_at=now, attempt=1)
    job.refresh_from_db()
    fields = {"job": job.pk, "kind": "pause", "attempt": 1, "created_at": now}
    ended = [Wait(name=f"{number}", how="due", ended_at=now, **fields) for number in range(250)]
    Wait.objects.bulk_create([*ended, Wait(name="open", **fields)])
    steps = shown(job)
    assert [name for name, _, state in steps if state == "waiting"] == ["open"] and len(steps) == 200
    call_command("notifications", "jobs", "show", str(job.pk))
    assert "Steps: 251" in capsys.readouterr().out


def test_a_call_that_is_cancelled_alone_has_failed(worker):
    """Its task goes on, as after a timeout. The call was stored as one that runs."""
    result = go_on_after_a_timeout.enqueue()
    wait_until(lambda: UnfinishedStep.objects.exists(), what="the call to be stored")
    assert shown(Job.objects.get()) == [("slow", 1, "running")]
    worker.call(skip_time(60))
    wait_until(lambda: shown(Job.objects.get()) == [("slow", 1, "failed")], what="the call to have failed")
    step_tasks.go_on.set()
    (job,) = until_done(result)
    assert (job.state, shown(job)) == ("succeeded", [("slow", 1, "failed")])


def test_a_call_that_ends_with_its_execution_is_interrupted(worker):
    """Because the job is suspended, or cancelled."""
    pause_beside_a_step.enqueue()
    wait_until(lambda: Job.objects.get().state == "waiting", what="the pause")
    assert shown(Job.objects.get()) == [("label", 1, "lost"), ("nap", 1, "waiting")]
    Job.objects.all().delete()
    result = go_on_when_cancelled.enqueue()
    wait_until(lambda: UnfinishedStep.objects.filter(job=result.id).exists(), what="the call to be stored")
    cancel([result.id])
    (job,) = until_done(result)
    assert shown(job) == [("slow", 1, "lost")]


@pytest.mark.parametrize(
    ("task", "cause"),
    [
        (fail_beside_another, "charge"),
        (fail_beside_a_step, ""),
        (fail_in_a_group, "charge"),
        (time_out_after_a_failure, "label"),
        (fail_elsewhere, ""),
    ],
)
def test_a_job_has_failed_at_no_innocent_call(worker, user_client, user, task, cause):
    """Nor at one whose error was caught, which is seen by what began or returned afterwards."""
    (job,) = until_done(task.using(owner=user).enqueue())
    assert job.state == "failed"
    page = user_client.get(f"/notifications/jobs/{job.id}/").text
    assert re.findall(r">Failed at (\w+)<", page) == [cause] * bool(cause)


def test_a_call_that_the_database_refuses_to_show(worker, caplog):
    """It goes on, unseen, and the results of others are stored meanwhile."""
    with refused("INSERT INTO .notifications_steps_unfinishedstep.*held", error=DataError) as found:
        result = step_tasks.hold_in_sync_step.enqueue()
        wait_until(lambda: "Could not store that the step" in caplog.text, what="the refusal")
        until_done(step_tasks.ten_steps.enqueue())
    step_tasks.go_on.set()
    (job,) = until_done(result)
    assert job.state == "succeeded" and len(found) == 1
    assert "A loop of the worker failed" not in caplog.text


def test_many_short_calls_ring_rarely(worker, user):
    """Each claim, progress and end of a job raises its version once; 400 steps only by the interval of progress."""
    (job,) = until_done(many_steps.using(owner=user).enqueue(400))
    took = (job.finished_at - job.started_at).total_seconds()
    assert Step.objects.count() == 400
    assert 4 <= job.version <= 4 + took / 0.5


def test_a_job_that_is_done_soon_rings_as_one_without_steps(worker, user, set_bounds):
    set_bounds(beats=30)
    (job,) = until_done(many_steps.using(owner=user).enqueue(20))
    assert job.version == 3


def test_pruned_with_their_jobs(worker):
    until_done(step_tasks.fail_in_the_second.enqueue())
    assert UnfinishedStep.objects.count() == 1
    call_command("notifications", "prune", days=0)
    assert not Job.objects.exists() and not UnfinishedStep.objects.exists()


def test_inline_calls_that_raise_are_not_stored(db):
    step_tasks.fail_in_the_second.enqueue()
    run_until_idle()
    assert not UnfinishedStep.objects.exists()

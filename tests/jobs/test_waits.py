"""Pauses: jobs that wait without a worker, and go on from where they were."""

import asyncio
import contextlib
import io
import re
import uuid
from datetime import UTC, timedelta

import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, transaction

from notifications.api import WaitInfo, apause, batch, get_job, join, pause, policy, task
from notifications.contrib.steps import astep
from notifications.exceptions import JobCancelled, TooManyJobs
from notifications.jobs import cancel, end_stored, retry
from notifications.models import Attempt, Job, Notification, Wait
from notifications.testing import clock, run_jobs, run_until_idle
from tests.jobs import tasks, wait_tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.claims import claim_rows
from tests.support.django_tasks import TaskResultStatus
from tests.support.duties import run_duty
from tests.support.statements import preceded

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_old_django,
]


@task
@policy(max_attempts=1)
async def pause_twice(duration_ms=86_400_000):
    wait_tasks.calls.append("begin")
    await astep("first", wait_tasks.call, "first")
    await apause("nap", timedelta(milliseconds=duration_ms))
    await astep("second", wait_tasks.call, "second")
    await apause("rest", timedelta(milliseconds=duration_ms))
    return wait_tasks.calls.count("begin")


@task
@policy(max_attempts=1)
async def swallow():
    with contextlib.suppress(BaseException):
        await apause("nap", wait_tasks.DAY)
    return "ready"


@task
@policy(max_attempts=1)
async def handle_exceptions():
    try:
        await apause("nap", wait_tasks.DAY)
    except Exception:
        return "caught"
    return "ready"


@task
@policy(max_attempts=1)
async def pause_in_group(kind):
    async def work():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            wait_tasks.calls.append("cancelled")
            raise

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    if kind == "gather":
        await asyncio.gather(apause("nap", wait_tasks.DAY), work())
    else:
        async with asyncio.TaskGroup() as group:
            group.create_task(apause("nap", wait_tasks.DAY))
            group.create_task(work())
    working.cancel()


@task
@policy(max_attempts=2, retry_on=(OSError,))
async def change_kind():
    if not wait_tasks.calls:
        await astep("nap", wait_tasks.call, "nap")
        raise OSError
    await apause("nap", wait_tasks.DAY)


@task
@policy(max_attempts=1)
def pause_in_transaction():
    with transaction.atomic():
        pause("nap", wait_tasks.DAY)


DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def calls(jobs_clock):
    wait_tasks.calls.clear()
    return wait_tasks.calls


def suspended(task=pause_twice, *args, **options):
    """Enqueue a job and run it until it waits. Returns its row."""
    result = task.using(**options).enqueue(*args)
    run_jobs()
    return row(result.id)


def row(id):
    return Job.objects.get(id=id)


def read_item(client, job):
    return client.get(f"/notifications/api/jobs/{job.id}/").json()


def show(job):
    output = io.StringIO()
    call_command("notifications", "jobs", "show", str(job.id), stdout=output)
    return output.getvalue()


def traceback_of(job):
    return Attempt.objects.get(job=job).traceback


class TestPause:
    def test_a_job_goes_on_where_it_was(self, worker, calls):
        (job,) = until_done(pause_twice.enqueue(200))
        assert (job.state, job.result, job.attempt) == ("succeeded", "3", 1)
        assert calls == ["begin", "first", "begin", "second", "begin"]
        waits = list(Wait.objects.filter(job=job.id).order_by("id"))
        assert [(wait.name, wait.kind, wait.how, wait.attempt) for wait in waits] == [
            ("nap", "pause", "due", 1),
            ("rest", "pause", "due", 1),
        ]
        for wait in waits:
            assert wait.ended_at >= wait.due_at == wait.created_at + timedelta(milliseconds=200)
        assert not Attempt.objects.exists()

    def test_a_sync_job(self, worker, calls):
        (job,) = until_done(wait_tasks.pause_sync.enqueue(100))
        assert (job.state, job.result, job.attempt) == ("succeeded", '"second"', 1)
        assert calls == ["first", "second"]

    def test_a_waiting_job_holds_nothing(self, user):
        job = suspended(owner=user, concurrency_key="one")
        assert (job.state, job.worker, job.deadline, job.seq, job.attempt) == ("waiting", None, None, 0, 1)
        assert not job.done
        other = tasks.noop.using(concurrency_key="one").enqueue()
        assert run_jobs() == 1
        assert row(other.id).state == "succeeded"
        run_duty("take jobs from lost workers")
        assert row(job.id).state == "waiting"

    def test_the_next_attempt_is_not_counted(self, calls):
        """The pause is longer than the timeout of 2 s, which counts execution only; a failure counts."""
        job = suspended(wait_tasks.fail_after_pause)
        clock.advance(DAY)
        run_until_idle()
        job.refresh_from_db()
        assert (job.state, job.attempt, job.result) == ("succeeded", 2, "2")
        assert Attempt.objects.get(job=job).number == 1

    def test_workers_are_woken(self, rings):
        suspended()
        clock.advance(DAY)
        rings.clear()
        run_duty("end waits that are due")
        assert rings == [True]

    def test_it_is_running_for_django(self):
        result = pause_twice.enqueue()
        run_jobs()
        result.refresh()
        assert result.status == TaskResultStatus.RUNNING
        assert not result.is_finished

    def test_what_code_reads(self, user, django_assert_num_queries):
        """Only while the job waits: before, in a second query; afterwards nothing is searched."""
        job = suspended(owner=user)
        wait = Wait.objects.get()
        with django_assert_num_queries(2):
            info = get_job(job.id)
        assert info.waiting == (WaitInfo(kind="pause", name="nap", title="nap", until=wait.due_at),)
        assert info.waiting[0].until.tzinfo is UTC
        cancel([job.id])
        with django_assert_num_queries(1):
            assert get_job(job.id).waiting == ()

    def test_the_item(self, user, user_client):
        job = suspended(owner=user)
        wait = Wait.objects.get()
        item = read_item(user_client, job)
        assert (item["state"], item["done"], item["attempt"]) == ("waiting", False, 1)
        page = f"/notifications/jobs/{job.id}/"
        assert item["waiting"] == {
            "id": str(wait.id),
            "kind": "pause",
            "title": "nap",
            "expires_at": wait.due_at.isoformat().replace("+00:00", "Z"),
            "choices": None,
            "links": {"answer": None, "page": page},
        }
        version = job.version
        clock.advance(DAY)
        run_duty("end waits that are due")
        job.refresh_from_db()
        assert (job.state, job.waiting) == ("queued", None)
        assert job.version == version + 1
        assert read_item(user_client, job)["waiting"] is None
        assert get_job(job.id).state == "queued"


@pytest.mark.parametrize("task", [pause_twice, wait_tasks.pause_sync])
def test_an_outage_while_it_reads_what_is_stored(worker, set_bounds, calls, task, caplog, forgotten_log):
    """The database is away when the job is executed again: it fails no job, and the attempt goes on after it.

    The log says so once a minute, however many jobs try again.
    """
    errors = iter([OperationalError("away"), InterfaceError("closed")])

    def fail():
        raise next(errors)

    set_bounds(retries=0.01)
    with preceded('SELECT "notifications_wait"."name"', fail, times=2) as statements:
        (job,) = until_done(task.enqueue(100))
    assert (job.state, job.attempt, len(statements)) == ("succeeded", 1, 2)
    assert caplog.text.count("Could not read what") == 1


class TestWrongUses:
    def test_a_swallowed_suspension_fails_and_says_so(self):
        job = suspended(swallow)
        assert (job.state, Wait.objects.count()) == ("failed", 0)
        assert "The task caught JobSuspended, which 'nap' raised" in traceback_of(job)

    def test_except_exception_lets_it_pass(self):
        job = suspended(handle_exceptions)
        assert job.state == "waiting"

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("name twice", "The name 'nap' was used before in this attempt"),
            ("duration", "duration is 0:00:00. It must be more than nothing"),
            ("type", "duration must be a timedelta, not int"),
        ],
    )
    def test_names_and_durations(self, kind, error):
        job = suspended(wait_tasks.wrong, kind)
        assert job.state == "failed"
        assert error in traceback_of(job)

    def test_the_name_of_a_step(self):
        result = change_kind.enqueue()
        run_until_idle()
        assert row(result.id).state == "failed"
        text = Attempt.objects.filter(job=result.id).order_by("-number").first().traceback
        assert "The name 'nap' is that of a step of this job, and cannot be that of a pause" in text

    def test_in_a_transaction(self, worker):
        (job,) = until_done(pause_in_transaction.enqueue())
        assert "pause() was called inside a transaction" in traceback_of(job)

    async def test_outside_of_a_job(self):
        with pytest.raises(RuntimeError, match=r"apause\(\) was called outside of a job"):
            await apause("nap", DAY)

    def test_outside_of_a_job_sync(self):
        with pytest.raises(RuntimeError, match=r"pause\(\) was called outside of a job"):
            pause("nap", DAY)


@pytest.mark.parametrize("kind", ["gather", "task group"])
def test_tasks_that_the_job_has_started_are_cancelled(worker, calls, kind):
    job = until_state(pause_in_group.enqueue(kind), "waiting")
    assert calls == ["cancelled", "cancelled"]
    assert Wait.objects.get(job=job.id).name == "nap"


class TestCancel:
    def test_at_once(self, user):
        job = suspended(owner=user)
        assert cancel([job.id], by=user.pk) == {job.id: "cancelled"}
        job.refresh_from_db()
        assert (job.state, job.waiting) == ("cancelled", None)
        assert job.cancel_requested_at and job.seq
        wait = Wait.objects.get()
        assert (wait.how, wait.ended_at) == ("cancelled", job.finished_at)
        assert not Attempt.objects.exists()
        clock.advance(DAY)
        assert run_until_idle() == 0

    def test_by_another_user(self, user):
        job = suspended(owner=user)
        cancel([job.id], by=user.pk + 1)
        assert Notification.objects.get(user=user).key == f"job:{job.id}"

    def test_with_queued_and_running_jobs(self, user):
        """Each of the three is cancelled in its way, by one call."""
        job = suspended(owner=user)
        tasks.noop.enqueue()
        [running] = claim_rows(uuid.uuid4(), 1)
        queued = tasks.noop.enqueue()
        ids = [job.id, running.id, uuid.UUID(queued.id)]
        assert cancel(ids) == dict(zip(ids, ["cancelled", "asked", "cancelled"], strict=True))
        assert [row(id).state for id in ids] == ["cancelled", "running", "cancelled"]

    def test_retry_from_the_start(self, calls):
        job = suspended()
        cancel([job.id])
        retry([job.id], from_start=True)
        assert not Wait.objects.exists()
        run_until_idle()
        assert calls.count("first") == 2


class TestWhatTakesItForActive:
    def test_a_batch(self):
        with batch() as jobs:
            pause_twice.enqueue()
            tasks.noop.enqueue()
        run_jobs()
        assert row(jobs.id).state == "running"
        run_until_idle()
        assert row(jobs.id).state == "succeeded"

    def test_a_batch_is_cancelled(self):
        with batch() as jobs:
            pause_twice.enqueue()
        run_jobs()
        cancel([jobs.id])
        assert {job.state for job in Job.objects.all()} == {"cancelled"}

    def test_join(self, worker):
        result = wait_tasks.pause_sync.enqueue(300)
        assert join(result, timeout=10) == "second"

    def test_join_of_a_job_that_is_cancelled(self, worker):
        result = wait_tasks.pause_sync.enqueue()
        until_state(result, "waiting")
        cancel([uuid.UUID(result.id)])
        with pytest.raises(JobCancelled):
            join(result, timeout=10)

    def test_the_limit_of_active_jobs(self, user, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        suspended(owner=user)
        with pytest.raises(TooManyJobs):
            tasks.noop.using(owner=user).enqueue()


class TestRows:
    def test_they_are_pruned_with_the_job(self, user):
        jobs = [suspended(owner=user), suspended()]
        cancel([job.id for job in jobs])
        call_command("notifications", "prune", days=0, stdout=io.StringIO())
        assert not Wait.objects.exists()
        assert not Job.objects.exists()

    def test_they_stay_until_their_jobs_are_deleted(self, set_bounds):
        """Or a job that waits without a wait would be queued."""
        set_bounds(rows=2)
        cancel([suspended().id for _ in range(3)])
        counts = []

        def count():
            counts.append((Job.objects.count(), Wait.objects.count()))

        with preceded(r"DELETE FROM .?notifications_job\b", count, times=None):
            call_command("notifications", "prune", days=0, stdout=io.StringIO())
        assert counts[0] == (3, 2), "The first transaction deletes one job."
        assert not Wait.objects.exists() and not Job.objects.exists()

    def test_they_are_purged_with_the_user(self, user):
        suspended(owner=user)
        user.delete()
        assert not Wait.objects.exists()


def test_timeline(user, client):
    """Pages and commands show waits among the steps, open ones last."""
    job = suspended(owner=user)
    client.force_login(user)
    shown = client.get(f"/notifications/jobs/{job.id}/").text
    assert re.search(r"Waiting until <time datetime=\"[^\"]+\" data-exact>", shown)
    until = read_item(client, job)["waiting"]["expires_at"]
    assert f"nap: attempt 1, waiting until {until}, Pause" in show(job)
    clock.advance(DAY)
    run_jobs()
    assert re.findall(r"^(\w+): attempt 1, ", show(job), re.MULTILINE) == ["first", "second", "nap", "rest"]
    assert re.search(r"^nap: .* 864\d\d\.\d\d s, Due$", show(job), re.MULTILINE)


def test_timeline_of_a_callback_without_a_time(user, user_client, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": "https://site.example"}
    job = suspended(wait_tasks.ask_bank, owner=user)
    assert "bank: attempt 1, waiting, Callback\n" in show(job)
    end_stored(job.id, Wait.objects.all(), how="called_back", value='{"paid": true, "password": "s3cret"}')
    assert 's, Called back: {"paid": true, "password": "•••"}\n' in show(job)
    assert "paid" not in user_client.get(f"/notifications/jobs/{job.id}/").text

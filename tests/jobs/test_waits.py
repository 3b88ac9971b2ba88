"""Pauses: jobs that wait without a worker, and go on from where they were."""

import io
import logging
import re
import uuid
from datetime import UTC, timedelta

import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection, transaction

from notifications.api import WaitInfo, apause, batch, get_job, join, pause
from notifications.context import set_current_execution
from notifications.contrib.questions import aquestion
from notifications.contrib.steps import astep
from notifications.contrib.webhooks import acallback
from notifications.contrib.webhooks.callback_storage import end_callback
from notifications.db import retrying_atomic
from notifications.exceptions import JobCancelled, TooManyJobs
from notifications.jobs import cancel, durable_calls, retry
from notifications.jobs.step_list import read_steps
from notifications.jobs.transitions import reaping, waiting
from notifications.jobs.transitions.claims import ClaimedJob
from notifications.models import Attempt, Job, Notification, Wait
from notifications.serializers import serialize_job
from notifications.streams.purging import purge_chunk
from notifications.streams.retention import Pruning
from notifications.testing import clock, run_jobs, run_until_idle
from notifications.worker import Execution
from tests.jobs import tasks, wait_tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.claims import claim_rows
from tests.support.django_tasks import TaskResultStatus

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def calls(jobs_clock):
    wait_tasks.calls.clear()
    return wait_tasks.calls


def suspended(task=wait_tasks.pause_twice, *args, **options):
    """Enqueue a job and run it until it waits. Returns its row."""
    result = task.using(**options).enqueue(*args)
    run_jobs()
    return row(result.id)


def row(id):
    return Job.objects.get(id=id)


def traceback_of(job):
    return Attempt.objects.get(job=job).traceback


class TestPause:
    def test_a_job_goes_on_where_it_was(self, worker, calls):
        (job,) = until_done(wait_tasks.pause_twice.enqueue(200))
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
        assert reaping.reap_jobs() == 0

    def test_the_next_attempt_is_not_counted(self, calls):
        """The pause is longer than the timeout of 2 s, which counts execution only; a failure counts."""
        job = suspended(wait_tasks.fail_after_pause)
        clock.advance(DAY)
        run_until_idle()
        job.refresh_from_db()
        assert (job.state, job.attempt, job.result) == ("succeeded", 2, "2")
        assert Attempt.objects.get(job=job).number == 1

    def test_workers_are_woken(self, rings, monkeypatch):
        monkeypatch.setattr(waiting, "MAX_WAITS_PER_TRANSACTION", 1)
        suspended()
        clock.advance(DAY)
        rings.clear()
        assert waiting.end_due_waits() is True  # there may be more
        assert rings == [True]
        assert waiting.end_due_waits() is False

    def test_it_is_running_for_django(self):
        result = wait_tasks.pause_twice.enqueue()
        run_jobs()
        result.refresh()
        assert result.status == TaskResultStatus.RUNNING
        assert not result.is_finished

    def test_inline(self, calls):
        job = suspended()
        clock.advance(DAY - timedelta(seconds=5))
        assert run_jobs() == 0
        clock.advance(timedelta(seconds=6))
        assert run_jobs() == 1
        assert run_until_idle() == 1
        assert row(job.id).state == "succeeded"
        assert calls == ["begin", "first", "begin", "second", "begin"]

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

    def test_the_item(self, user):
        job = suspended(owner=user)
        wait = Wait.objects.get()
        item = serialize_job(job)
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
        waiting.end_due_waits()
        job.refresh_from_db()
        assert (job.state, job.waiting) == ("queued", None)
        assert job.version == version + 1
        assert serialize_job(job)["waiting"] is None
        assert get_job(job.id).state == "queued"


@pytest.mark.parametrize("task", [wait_tasks.pause_twice, wait_tasks.pause_sync])
def test_an_outage_while_it_reads_what_is_stored(worker, monkeypatch, calls, task):
    """The database is away when the job is executed again: it fails no job, and the attempt goes on after it."""
    errors = iter([OperationalError("away"), InterfaceError("closed")])
    database = durable_calls.database

    def find_database():
        if error := next(errors, None):
            raise error
        return database()

    monkeypatch.setattr(durable_calls, "database", find_database)
    monkeypatch.setattr(durable_calls, "RETRY_INTERVAL_SECONDS", 0.01)
    (job,) = until_done(task.enqueue(100))
    assert (job.state, job.attempt, next(errors, None)) == ("succeeded", 1, None)


class TestWrongUses:
    def test_a_swallowed_suspension_fails_and_says_so(self):
        job = suspended(wait_tasks.swallow)
        assert (job.state, Wait.objects.count()) == ("failed", 0)
        assert "The task caught JobSuspended, which 'nap' raised" in traceback_of(job)

    def test_except_exception_lets_it_pass(self):
        job = suspended(wait_tasks.handle_exceptions)
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
        result = wait_tasks.change_kind.enqueue()
        run_until_idle()
        assert row(result.id).state == "failed"
        text = Attempt.objects.filter(job=result.id).order_by("-number").first().traceback
        assert "The name 'nap' is that of a step of this job, and cannot be that of a pause" in text

    def test_in_a_transaction(self, worker):
        (job,) = until_done(wait_tasks.pause_in_transaction.enqueue())
        assert "pause() was called inside a transaction" in traceback_of(job)

    @pytest.mark.parametrize("kind", ["step", "pause", "question", "callback"])
    async def test_in_an_observed_task(self, kind, settings, monkeypatch):
        """Only Celery can execute it again."""
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": "https://site.example"}
        calls = {
            "step": lambda: astep("name", str),
            "pause": lambda: apause("name", DAY),
            "question": lambda: aquestion("Go on?", name="name", choices={"yes": "Yes"}),
            "callback": lambda: acallback("name"),
        }
        execution = Execution(ClaimedJob(Job()), lambda execution: None)
        monkeypatch.setattr(Execution, "is_observed", True)
        set_current_execution(execution)
        with pytest.raises(RuntimeError, match="An observed Celery task cannot have steps, nor wait"):
            await calls[kind]()

    async def test_outside_of_a_job(self):
        with pytest.raises(RuntimeError, match=r"apause\(\) was called outside of a job"):
            await apause("nap", DAY)

    def test_outside_of_a_job_sync(self):
        with pytest.raises(RuntimeError, match=r"pause\(\) was called outside of a job"):
            pause("nap", DAY)


@pytest.mark.parametrize("kind", ["gather", "task group"])
def test_tasks_that_the_job_has_started_are_cancelled(worker, calls, kind):
    job = until_state(wait_tasks.pause_in_group.enqueue(kind), "waiting")
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

    def test_retry_waits_anew(self, calls):
        """What has ended stays, what was cancelled is waited for again; steps stay."""
        job = suspended()
        clock.advance(DAY)
        run_jobs()
        cancel([job.id])
        assert retry([job.id]) == [job.id]
        assert list(Wait.objects.values_list("name", "how")) == [("nap", "due")]
        run_jobs()
        job.refresh_from_db()
        assert (job.state, job.attempt, job.max_attempts) == ("waiting", 2, 2)
        assert Wait.objects.filter(name="rest", ended_at=None).exists()
        run_until_idle()
        assert row(job.id).state == "succeeded"
        assert calls.count("first") == calls.count("second") == 1

    def test_retry_from_the_start(self, calls):
        job = suspended()
        cancel([job.id])
        retry([job.id], from_start=True)
        assert not Wait.objects.exists()
        run_until_idle()
        assert calls.count("first") == 2

    def test_a_waiting_job_is_not_retried(self):
        job = suspended()
        assert retry([job.id]) == []
        assert row(job.id).state == "waiting"


class TestWhatTakesItForActive:
    def test_a_batch(self):
        with batch() as jobs:
            wait_tasks.pause_twice.enqueue()
            tasks.noop.enqueue()
        run_jobs()
        assert row(jobs.id).state == "running"
        run_until_idle()
        assert row(jobs.id).state == "succeeded"

    def test_a_batch_is_cancelled(self):
        with batch() as jobs:
            wait_tasks.pause_twice.enqueue()
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
        pruning = Pruning(clock.now() + DAY, run=retrying_atomic)
        while pruning.prune_chunk() is not None:
            pass
        assert not Wait.objects.exists()
        assert not Job.objects.exists()

    def test_they_stay_until_their_jobs_are_deleted(self, set_belongings):
        """Or a job that waits without a wait would be queued."""
        set_belongings(2)
        cancel([suspended().id for _ in range(3)])
        pruning = Pruning(clock.now() + DAY, run=retrying_atomic)
        assert pruning.prune_chunk() == 1
        assert (Job.objects.count(), Wait.objects.count()) == (2, 2)
        while pruning.prune_chunk() is not None:
            pass
        assert not Wait.objects.exists() and not Job.objects.exists()

    def test_they_are_purged_with_the_user(self, user):
        suspended(owner=user)
        retrying_atomic(lambda: purge_chunk([user.pk]))
        assert not Wait.objects.exists()


class TestDuties:
    def test_locked_jobs_hold_up_no_others(self):
        """More due waits than one transaction ends are of jobs that another one holds locked."""
        if connection.vendor == "sqlite":
            pytest.skip("SQLite locks no rows.")
        from tests.support.threads import run_in_threads

        ids = [suspended().id for _ in range(3)]
        locked, free = ids[:2], ids[2]
        clock.advance(DAY)

        def end():
            waiting.end_due_waits()

        limit = waiting.MAX_WAITS_PER_TRANSACTION
        waiting.MAX_WAITS_PER_TRANSACTION = 2
        try:
            with transaction.atomic():
                list(Job.objects.select_for_update().filter(id__in=locked))
                run_in_threads(end)
                assert row(free).state == "queued"
                assert {row(id).state for id in locked} == {"waiting"}
        finally:
            waiting.MAX_WAITS_PER_TRANSACTION = limit
        assert waiting.end_due_waits() is False
        assert {row(id).state for id in locked} == {"queued"}

    def test_a_job_without_a_wait_is_queued_and_logged(self, caplog):
        job, other = suspended(), suspended()
        Wait.objects.filter(job=job.id).delete()
        with caplog.at_level(logging.ERROR, "notifications.jobs"):
            assert waiting.queue_jobs_without_wait() is None
        assert [record.getMessage() for record in caplog.records] == [
            f"Queued a waiting job that had nothing to wait for, which is a defect: job {job.id}"
        ]
        assert (row(job.id).state, row(other.id).state) == ("queued", "waiting")

    def test_the_search_goes_on_after_its_last_job(self, monkeypatch):
        monkeypatch.setattr(waiting, "MAX_JOBS_PER_CHECK", 2)
        ids = sorted(suspended().id for _ in range(3))
        Wait.objects.filter(job=ids[2]).delete()
        assert waiting.queue_jobs_without_wait() == ids[1]
        assert waiting.queue_jobs_without_wait(ids[1]) is None
        assert row(ids[2]).state == "queued"

    def test_the_condition(self):
        def is_needed():
            sql, params = waiting.due_condition()
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {sql}", params)
                return bool(cursor.fetchone()[0])

        assert not is_needed()
        suspended()
        assert not is_needed()
        clock.advance(DAY)
        assert is_needed()
        waiting.end_due_waits()
        assert not is_needed()


def test_timeline(user, client):
    """Pages and commands show waits among the steps, open ones last."""
    job = suspended(owner=user)
    (first, nap) = read_steps(job, with_results=True).first
    assert (first.name, nap.name, nap.took, nap.result) == ("first", "nap", None, "Pause")
    assert nap.took_label.startswith("Waiting until ")
    client.force_login(user)
    shown = client.get(f"/notifications/jobs/{job.id}/").text
    assert re.search(r"Waiting until <time datetime=\"[^\"]+\" data-exact>", shown)
    output = io.StringIO()
    call_command("notifications", "jobs", "show", str(job.id), stdout=output)
    assert (
        f"nap: attempt 1, waiting until {serialize_job(job)['waiting']['expires_at']}, Pause"
        in output.getvalue()
    )
    clock.advance(DAY)
    run_jobs()
    read = read_steps(row(job.id), with_results=True).first
    found = {step.name: (step.took_label, step.result) for step in read}
    assert found.keys() == {"first", "nap", "second", "rest"} and read[-1].name == "rest"
    assert found["nap"] == ("24\xa0h", "Due")


def test_timeline_of_a_callback_without_a_time(user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": "https://site.example"}
    job = suspended(wait_tasks.ask_bank)
    bank = read_steps(job, with_results=True).first[-1]
    assert (bank.name, bank.took_label, bank.result) == ("bank", "Waiting", "Callback")
    end_callback(Wait.objects.get(), '{"paid": true, "password": "s3cret"}')
    bank = read_steps(row(job.id), with_results=True).first[-1]
    assert bank.result.startswith("Called back: ") and "paid" in bank.result and "s3cret" not in bank.result
    assert read_steps(row(job.id), with_results=False).first[-1].result is None

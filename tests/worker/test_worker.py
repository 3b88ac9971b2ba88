"""The worker runs jobs concurrently, and shuts down gracefully."""

import asyncio
import json
import threading

import pytest
from django.db import transaction

from notifications.api import policy, task
from notifications.exceptions import TooManyJobs
from notifications.jobs import cancel
from notifications.models import Attempt, Job, Stream, Worker
from notifications.worker import JobWorker
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done, until_state
from tests.support.duties import run_duty
from tests.support.statements import refused
from tests.support.waiting import wait_until


@task
@policy(max_attempts=1)
def hold_sync_once(name=""):
    return tasks.hold_sync.func(name)


def test_a_job_from_its_claim_to_its_notification(worker, user):
    """The row, the notification and the owner's stream have the expected values when the job has succeeded."""
    result = tasks.add.using(owner=user, title="Sum", url="/sum/").enqueue(40, 2)
    (job,) = until_done(result)
    (note,) = notifications_of(user)
    assert (job.state, job.result, job.error, job.attempt) == ("succeeded", "42", None, 1)
    assert (job.worker, job.fence) == (worker.id, 1)
    assert job.created_at <= job.started_at <= job.finished_at < job.deadline
    assert {job.seq, note.seq} == {1, 2}
    assert (note.raised, note.counted, note.job) == (note.seq, True, job.id)
    stream = Stream.objects.get(user=user)
    assert (stream.head, stream.unread) == (2, 1)


def test_the_row_of_a_running_job(worker, user, gate):
    result = tasks.hold.using(owner=user).enqueue()
    job = until_state(result, "running")
    assert (job.attempt, job.fence, job.version, job.seq, job.worker) == (1, 1, 2, 0, worker.id)
    assert 360 <= (job.deadline - job.started_at).total_seconds() < 365
    gate.set()
    assert until_done(result)[0].version == 3


def test_async_tasks_run_concurrently_up_to_the_limit(start_worker, gate):
    start_worker(concurrency=5)
    results = [tasks.hold.enqueue(number) for number in range(8)]
    wait_until(lambda: len(tasks.held) == 5, what="five jobs to run")
    assert Job.objects.filter(state="running").count() == 5
    gate.set()
    assert {job.state for job in until_done(*results)} == {"succeeded"}
    assert len(tasks.held) == 8


@pytest.mark.long
def test_500_jobs_of_which_some_fail(worker, user, settings):
    """Each ends once with one notification, and all are numbered without a gap."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 500}
    with transaction.atomic():
        for number in range(500):
            tasks.one_in_five_fails.using(owner=user).enqueue(number)
        with pytest.raises(TooManyJobs):
            tasks.noop.using(owner=user).enqueue()
    wait_until(
        lambda: not Job.objects.filter(state__in=["queued", "running"]).exists(), what="all to be done"
    )
    for job in Job.objects.all():
        (number,) = json.loads(job.args)
        assert job.state == ("failed" if number % 5 == 0 else "succeeded"), number
        assert job.attempt == 1
    assert Attempt.objects.count() == 100
    wait_until(lambda: not Job.objects.filter(seq=None).exists(), what="all to be numbered")
    notes = notifications_of(user)
    assert len(notes) == len({note.job for note in notes}) == 500
    assert [note.level for note in notes].count("error") == 100
    seqs = sorted([note.seq for note in notes] + list(Job.objects.values_list("seq", flat=True)))
    assert seqs == list(range(1, 1001))
    stream = Stream.objects.get(user=user)
    assert (stream.head, stream.unread) == (1000, 500)


class TestGracefulShutdown:
    def test_running_jobs_finish(self, worker, gate):
        """Running jobs end within the grace period, and no other job begins."""
        result = tasks.hold.enqueue("first")
        wait_until(lambda: tasks.held, what="the job to run")
        worker.worker.stop(grace=20)
        worker.call(worker.worker.state.claim_writer.run(int))  # a claim that was under way has ended
        unclaimed = tasks.noop.enqueue()
        threading.Timer(0.3, gate.set).start()
        worker.thread.join(60)
        assert not worker.thread.is_alive()
        assert Job.objects.get(id=result.id).state == "succeeded"
        assert Job.objects.get(id=unclaimed.id).state == "queued"
        assert not Worker.objects.exists()

    def test_unfinished_jobs_are_released(self, start_worker, user, gate):
        """Async tasks are cancelled, sync tasks are not; no attempt counts, and another worker runs the jobs.

        They have begun, so they do not expire.
        """
        first = start_worker()
        options = {"owner": user, "expires": 3600}
        results = [tasks.hold.using(**options).enqueue("a"), tasks.hold_sync.using(**options).enqueue("b")]
        wait_until(lambda: len(tasks.held) == 2, what="both to run")
        first.stop(grace=0.1)
        for result in results:
            job = Job.objects.get(id=result.id)
            assert (job.state, job.attempt, job.worker, job.fence) == ("queued", 0, None, 1)
            assert job.expires_at is None
        assert "cancelled a" in tasks.seen
        assert not Attempt.objects.exists()
        gate.set()
        start_worker()
        assert [(job.state, job.attempt, job.fence) for job in until_done(*results)] == [
            ("succeeded", 1, 2)
        ] * 2
        assert len(notifications_of(user)) == 2

    def test_jobs_that_must_not_begin_twice_end(self, start_worker, user, gate):
        """As if their worker was lost. One in line for a thread has not begun, and is released."""
        first = start_worker(concurrency=4)
        first.worker._job_runner.sync_threads._size = 1
        once = [tasks.hold_once.using(owner=user).enqueue("a"), hold_sync_once.enqueue("b")]
        again = [tasks.hold.enqueue("c")]
        wait_until(lambda: len(tasks.held) == 3, what="three to run")
        again.append(hold_sync_once.enqueue("d"))
        until_state(again[1], "running")
        first.stop(grace=0.1)
        for result in once:
            job = Job.objects.get(id=result.id)
            assert (job.state, job.attempt, json.loads(job.error)["type"]) == ("failed", 1, "worker-lost")
        for result in again:
            job = Job.objects.get(id=result.id)
            assert (job.state, job.attempt, job.worker) == ("queued", 0, None)
        assert set(Attempt.objects.values_list("outcome", flat=True)) == {"lost"}
        gate.set()
        start_worker()
        assert {job.state for job in until_done(*again)} == {"succeeded"}
        assert sorted(tasks.held) == ["a", "b", "c", "c", "d"]
        assert len(notifications_of(user)) == 1

    def test_a_cancelled_job_that_must_not_begin_twice_is_cancelled(self, start_worker, gate):
        worker = start_worker()
        result = hold_sync_once.enqueue()
        wait_until(lambda: tasks.held, what="the job to run")
        cancel([result.id])
        worker.stop(grace=0.1)
        assert Job.objects.get(id=result.id).state == "cancelled"

    def test_the_grace_period_while_the_database_is_busy(self, short_intervals, worker, gate):
        """A claim that fails during the stop does not end the grace period."""
        result = tasks.hold.enqueue()
        wait_until(lambda: tasks.held, what="the job to run")
        with refused("(?s)FROM notifications_job.*queued") as claims:
            worker.worker.state.loop.call_soon_threadsafe(worker.worker._claim_loop.wake)
            wait_until(lambda: claims, what="a claim that fails")
            worker.worker.stop(grace=10)
            threading.Timer(0.3, gate.set).start()
            worker.thread.join(60)
        assert Job.objects.get(id=result.id).state == "succeeded"

    def test_all_threads_end(self, start_worker, gate):
        before = set(threading.enumerate())
        worker = start_worker()
        until_done(*(task.enqueue() for task in (tasks.noop, tasks.noop_sync, tasks.thread_name)))
        worker.stop()

        def running_threads():
            return [
                thread.name
                for thread in set(threading.enumerate()) - before
                if thread.name.startswith("notifications-") and "doorbell" not in thread.name
            ]

        wait_until(lambda: not running_threads(), what="all threads to end")

    def test_an_exception_that_ends_the_loop_releases_no_job(self, start_worker, gate):
        """One of the jobs may have raised it. Its attempt counts, because it would otherwise be retried forever."""
        worker = start_worker()
        result = tasks.hold.enqueue()
        wait_until(lambda: tasks.held, what="the job to run")

        def end():
            raise SystemExit(1)

        worker.worker.state.loop.call_soon_threadsafe(end)
        worker.thread.join(60)
        assert isinstance(worker.error, SystemExit)
        worker.error = None
        job = Job.objects.get(id=result.id)
        assert (job.state, job.attempt) == ("running", 1)
        gate.set()
        start_worker()  # it reaps the job at its start or within a second
        run_duty("take jobs from lost workers")
        assert until_done(result)[0].attempt == 2


def test_a_doorbell_that_cannot_be_listened_to(transactional_db):
    """The worker ends with the error. Its watchdog once went on, and logged that the ended loop is blocked."""

    def refuse(on_ring):
        raise RuntimeError("No listener.")

    before, errors = set(threading.enumerate()), []

    def run():
        try:
            asyncio.run(JobWorker(listen=refuse).run())
        except RuntimeError as exc:
            errors.append(str(exc))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert errors == ["No listener."]
    new = lambda: {thread.name for thread in set(threading.enumerate()) - before}  # noqa: E731
    wait_until(lambda: "notifications-watchdog" not in new(), timeout=5, what="the watchdog to end")
    assert not Worker.objects.exists()

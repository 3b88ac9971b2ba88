"""Loops beside the jobs that run: progress is stored, and jobs that another worker has claimed end."""

import asyncio
import json
import uuid
from datetime import timedelta

from django.utils import timezone

from notifications.api import policy, task
from notifications.models import Attempt, Job
from notifications.signals import job_finished
from notifications.worker.running_jobs import PROGRESS_INTERVAL_SECONDS
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done, until_state
from tests.support.claims import claim_rows
from tests.support.statements import refused
from tests.support.waiting import wait_until


@task
@policy(timeout=0.2)
async def stubborn():
    """Ignore cancellations. The first call ends before the gate is open if "let go" is recorded."""
    tasks.held.append("stubborn")
    first = tasks.held.count("stubborn") == 1
    while not tasks.gate.is_set() and not (first and "let go" in tasks.seen):
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            tasks.seen.append("refused")
    return "late"


class TestClaimedByAnotherWorker:
    def test_its_execution_is_cancelled(self, short_intervals, worker, gate):
        """The slot becomes free, and the row does not change."""
        result = tasks.hold.using(title="Taken").enqueue("taken")
        until_state(result, "running")
        other = uuid.uuid4()
        Job.objects.filter(id=result.id).update(fence=9, worker=other)
        wait_until(lambda: "cancelled taken" in tasks.seen, what="the task to be cancelled")
        wait_until(lambda: not worker.worker.state.executions, what="the slot to be free")
        job = Job.objects.get(id=result.id)
        assert (job.state, job.fence, job.worker) == ("running", 9, other)

    def test_its_outcome_is_void(self, worker, gate, user):
        result = tasks.hold_sync.using(owner=user).enqueue()
        until_state(result, "running")
        Job.objects.filter(id=result.id).update(fence=9, version=50)
        gate.set()
        wait_until(lambda: not worker.worker.state.executions, what="the outcome to be void")
        job = Job.objects.get(id=result.id)
        assert (job.state, job.version, job.result) == ("running", 50, None)
        assert notifications_of(user) == []

    def test_the_same_worker_claims_it_again(self, short_intervals, worker, gate, settings, caplog):
        """The job passed its deadline while its task ignored its timeout. Each of both claims frees its own slot."""
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 0.4}
        result = stubborn.enqueue()
        wait_until(lambda: "refused" in tasks.seen, what="the task to refuse its timeout")
        Job.objects.filter(id=result.id).update(deadline=timezone.now() - timedelta(seconds=1))
        wait_until(lambda: tasks.held.count("stubborn") == 2, what="the second attempt")
        until_state(result, "running")
        tasks.seen.append("let go")  # the first execution ends
        wait_until(lambda: "is void" in caplog.text, what="the outcome of the first claim to be void")
        wait_until(lambda: worker.worker._record_loop.is_empty, what="its outcome to be settled")
        assert len(worker.worker.state.executions) == 1
        gate.set()
        (job,) = until_done(result)
        assert (job.state, job.attempt, job.fence) == ("succeeded", 2, 2)
        wait_until(lambda: not worker.worker.state.executions, what="both slots to be free")

    def test_a_lost_job_without_attempts_left(
        self, start_worker, user, connect_receiver, short_intervals, settings
    ):
        """It fails, its owner is notified, and the signals are sent."""
        finished = []
        connect_receiver(job_finished, lambda sender, job, **_: finished.append((str(job.id), job.state)))
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 0.4}
        result = tasks.noop.using(owner=user, queue_name="elsewhere").enqueue()
        claim_rows(uuid.uuid4(), 1)
        Job.objects.update(max_attempts=1)
        start_worker(queues=["default"])
        (job,) = until_done(result)
        assert json.loads(job.error)["type"] == "worker-lost"
        assert notifications_of(user)[0].body == "The work was interrupted and is not tried again."
        assert Attempt.objects.get().outcome == "lost"
        wait_until(lambda: finished == [(result.id, "failed")], what="the signal")


def test_progress_and_the_end_of_a_job(worker, user, gate):
    """Progress is stored while the job runs, each time with a new version, and at last with the outcome."""
    result = tasks.report_and_hold.using(owner=user).enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert (job.state, job.progress_total, job.progress_message, job.version) == ("running", 2, "half", 3)
    gate.set()
    (job,) = until_done(result)
    assert (job.progress_current, job.progress_message, job.version) == (2, "all", 4)


def test_progress_during_a_database_outage(worker, gate):
    """It is stored after the outage, even if the task reports nothing more."""
    with refused("UPDATE notifications_job SET progress_current", times=2) as tries:
        tasks.report_and_hold.enqueue()
        job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert (job.state, len(tries)) == ("running", 2)
    gate.set()


def test_frequent_progress_is_written_once_per_interval(worker):
    (job,) = until_done(tasks.count.enqueue(5_000))
    assert (job.progress_current, job.progress_total, job.progress_message) == (5000, 5000, "counting")
    # Three versions are changes of its state, and one is written per interval at most.
    assert job.version <= 4 + (job.finished_at - job.started_at).total_seconds() / PROGRESS_INTERVAL_SECONDS

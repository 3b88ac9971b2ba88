"""Attempts that a task has requested itself, and tasks without a time limit."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.api import policy, task
from notifications.jobs import Policy, RetryRequested, outcomes
from notifications.jobs.transitions import reaping, recording
from notifications.models import Attempt, Job, Worker
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db


@task
@policy(timeout=None)
def without_limit():
    return "done"


def request_attempt(worker, delay=0.0):
    (job,) = claim_rows(worker, 1)
    error = RetryRequested(delay)
    error.__cause__ = OSError("not yet")
    recording.finish_jobs([outcomes.failed(job, Policy(max_attempts=1), error)])
    return Job.objects.get(id=job.id)


def test_requested_attempts_are_counted_apart(live_worker):
    """max_attempts bounds the others: each requested one adds to it."""
    tasks.noop.enqueue()
    Job.objects.update(max_attempts=1)
    worker = live_worker()
    for number in (1, 2, 3):
        job = request_attempt(worker)
        assert (job.state, job.attempt, job.max_attempts, job.retries) == (
            "queued",
            number,
            number + 1,
            number,
        )
    assert set(Attempt.objects.values_list("outcome", "exception_class_path")) == {
        ("failed", "builtins.OSError")
    }
    claim_rows(worker, 1)
    reaping.reap_jobs([worker])
    assert Job.objects.get().state == "failed"


def test_requested_attempt_waits(live_worker):
    tasks.noop.enqueue()
    job = request_attempt(live_worker(), 60)
    assert timedelta(seconds=50) < (job.run_after or job.due_at) - timezone.now() < timedelta(seconds=70)


def test_job_without_a_time_limit_is_lost_by_the_lease_of_its_worker(live_worker):
    worker = live_worker()
    tasks.noop.enqueue()
    claim_rows(worker, 1, timeouts={"tests.jobs.tasks.noop": None})
    Job.objects.update(started_at=timezone.now() - timedelta(days=30))
    assert reaping.reap_jobs() == 0
    Worker.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert reaping.reap_jobs() == 1


def test_worker_runs_a_task_without_a_time_limit(worker, caplog):
    (job,) = until_done(without_limit.enqueue())
    assert job.state == "succeeded"
    assert "Exception in callback" not in caplog.text  # of the event loop

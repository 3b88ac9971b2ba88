"""Outcomes that are stored with their jobs until a hook can record them. The tests of faults end workers meanwhile."""

import pytest

from notifications.jobs import cancel, retry
from notifications.jobs.transitions import reaping, unrecorded_outcomes
from notifications.models import Job, Notification
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.outcomes import release, succeeded

pytestmark = pytest.mark.django_db


@pytest.fixture
def released(user, live_worker):
    """A job that was done and is queued again, because its outcome could not be recorded; its outcome."""
    tasks.noop.using(owner=user).enqueue()
    (job,) = claim_rows(live_worker(), 1)
    outcome = succeeded(job, {"rows": 3})
    outcome.notification.body = "All is well."
    unrecorded_outcomes.store(outcome)
    release(job)
    Job.objects.update(attempt=0)  # which a worker does that ends
    return outcome


def test_the_next_claim_has_the_outcome(live_worker, released):
    (job,) = claim_rows(live_worker(), 1)
    restored = unrecorded_outcomes.restore(job)
    for name in ("state", "result", "error", "attempt", "retry_delay", "notify"):
        assert getattr(restored, name) == getattr(released, name), name
    for field in Notification._meta.concrete_fields:
        if field.name != "created_at":  # JSON has milliseconds
            value = getattr(restored.notification, field.attname)
            assert value == getattr(released.notification, field.attname), field


def test_a_job_that_may_begin_only_once_is_queued_when_its_worker_stops(live_worker):
    """It is done: the next claim records that."""
    tasks.hold_once.enqueue()
    (job,) = claim_rows(live_worker(), 1)
    unrecorded_outcomes.store(succeeded(job, 1))
    reaping.release_at_stop([job], {(job.id, job.fence)})
    assert Job.objects.get().state == "queued"
    (job,) = claim_rows(live_worker(), 1)
    assert unrecorded_outcomes.restore(job)


def test_another_attempt_is_executed(live_worker, released):
    Job.objects.update(attempt=1)
    (job,) = claim_rows(live_worker(), 1)
    assert unrecorded_outcomes.restore(job) is None


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_cancelled_and_retried_by_hand_is_executed(live_worker, released):
    assert cancel([released.job.id])
    assert retry([released.job.id])
    (job,) = claim_rows(live_worker(), 1)
    assert job.attempt == 1
    assert unrecorded_outcomes.restore(job) is None

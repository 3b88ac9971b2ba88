"""Running jobs go back into the queue without an attempt that failed."""

import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone

from notifications.jobs.transitions import queueing, reaping
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)

#: Each takes the row of a claimed job.
REQUEUES = [
    lambda job: reaping.release_at_stop([job], ()),
    lambda job: queueing.requeue_unknown_task(SimpleNamespace(row=job)),
    queueing.requeue_without_thread,
]


@pytest.fixture
def claimed(live_worker, user):
    tasks.busy.using(owner=user).enqueue(1)
    [job] = claim_rows(live_worker(), 1)
    return job


@pytest.mark.parametrize("requeue", REQUEUES)
@pytest.mark.parametrize(
    "change", [{"fence": 2}, {"state": "queued"}, {"state": "failed"}, {"worker": uuid.uuid4()}]
)
def test_void_claims_change_nothing(claimed, requeue, change):
    """As in test_recording.py."""
    Job.objects.update(**change)
    before = Job.objects.values().get()
    requeue(claimed)
    assert Job.objects.values().get() == before
    assert not Attempt.objects.exists()


def test_rows_are_changed_in_the_order_of_their_ids(live_worker):
    """Two transactions that change the same rows would wait for each other otherwise."""
    for _ in range(3):
        tasks.noop.enqueue()
    jobs = claim_rows(live_worker(), 3)
    changed = []

    def record(execute, sql, params, many, context):
        if sql.startswith("UPDATE notifications_job"):
            changed.extend(uuid.UUID(str(id)) for *_, id, _, _ in params)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        reaping.release_at_stop(jobs[::-1], ())
    assert changed == sorted(job.id for job in jobs)


@pytest.mark.parametrize("is_released", [True, False])
def test_a_job_that_a_worker_gives_back(live_worker, rings, is_released):
    """It keeps nothing of its claim. Another worker is woken only if it may claim the job now."""
    tasks.noop.enqueue()
    assert rings == [True]
    Job.objects.update(fail_if_unknown_after=timezone.now())
    [job] = claim_rows(live_worker(), 1)
    rings.clear()
    reaping.release_at_stop([job], ()) if is_released else queueing.requeue_without_thread(job)
    row = Job.objects.get()
    assert (row.state, row.worker, row.deadline, row.fail_if_unknown_after) == ("queued", None, None, None)
    assert (row.attempt, row.fence, row.version) == (0, 1, job.version + 1)
    assert (True in rings) is is_released
    assert (row.run_after is None) is is_released
    assert row.executor == "async", "It is not a quarantined job."


def test_a_quarantined_job_is_one_until_an_attempt_ends(live_worker):
    """An attempt that raises ends that."""
    tasks.busy.enqueue(9)
    claim_rows(live_worker(-1), 1)
    run_duty("take jobs from lost workers")
    for requeue in REQUEUES:
        [job] = claim_rows(live_worker(), 1)
        assert job.executor == "quarantined"
        requeue(job)
        Job.objects.update(run_after=None, due_at=None)
    assert run_jobs() == 1
    job = Job.objects.get()
    assert (job.state, job.executor) == ("queued", "async")


@pytest.mark.parametrize(("stored", "hours"), [(5, 5), (30, 24), (-5, 0)])
def test_a_wrong_clock_said_when_a_job_of_an_unknown_task_fails(stored, hours):
    """What the other worker left of the day counts from now, and no more than a day."""
    now = timezone.now()
    due_at = now + timedelta(days=400)
    job = Job(run_after=due_at, fail_if_unknown_after=due_at + timedelta(hours=stored))
    assert queueing._fail_if_unknown_after(job, now, timedelta(days=1)) == now + timedelta(hours=hours)

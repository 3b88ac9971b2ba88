"""Running jobs go back into the queue without an attempt that failed."""

import contextlib
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.checks import Tags
from django.db import connection
from django.utils import timezone

from notifications.extension import Where
from notifications.jobs.transitions import queueing, reaping
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.checks import system_checks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)

YEARS = timedelta(days=3650)

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


@pytest.fixture
def fast_clock(jobs_clock):
    """Return a context manager that moves the clock of the database ahead, by ten years if nothing else is said."""

    @contextlib.contextmanager
    def move(ahead=YEARS):
        jobs_clock.advance(ahead)
        yield
        jobs_clock.reset()

    return move


def find_wrong_times():
    """Return what W014 says of times, and doctor by it."""
    found = system_checks(tags=[Tags.database], databases=["default"])
    assert {warning.id for warning in found} <= {"notifications.W014"}
    return found[0].msg if found else ""


def test_job_that_got_no_thread(fast_clock):
    """Its attempt did not count, so it has none. The clock was wrong when it was claimed."""
    id = tasks.noop.enqueue().id
    with fast_clock():
        [job] = claim_rows(uuid.uuid4(), 1)
    queueing.requeue_without_thread(job)
    assert str(id) in find_wrong_times()


@pytest.mark.parametrize("ahead", [timedelta(days=2), -timedelta(days=2)])
def test_unknown_task(fast_clock, ahead):
    """It fails a day after a worker has met it first, whichever of these workers has a wrong clock."""
    id = tasks.noop.enqueue().id
    hour, day = timedelta(hours=1), 24 * 3600 - 30

    def meet(ahead):
        with fast_clock(ahead):
            run_duty("queue jobs that are due", Where.SERVER)
            return [
                queueing.requeue_unknown_task(SimpleNamespace(row=job)) for job in claim_rows(uuid.uuid4(), 1)
            ]

    for offset in (ahead, hour / 2, ahead, hour):
        # For a clock that is slow the job is not due. What waits for a fast one is rescheduled, as doctor says.
        assert meet(offset) in ([True], [])
        job = Job.objects.get()
        assert day - 2 * 3600 < (job.fail_if_unknown_after - job.run_after).total_seconds() < day + 1
        assert offset <= hour or str(id) in find_wrong_times()
        moved = job.run_after - min(job.run_after, timezone.now())
        Job.objects.update(
            run_after=job.run_after - moved - hour / 2,
            due_at=job.run_after - moved - hour / 2,
            fail_if_unknown_after=job.fail_if_unknown_after - moved - hour / 2,
        )
    last = timezone.now() - timedelta(seconds=1)
    Job.objects.update(run_after=last, due_at=last, fail_if_unknown_after=last)
    assert meet(timedelta(0)) == [False]


def test_a_job_that_goes_back_before_its_task_is_called_expires(live_worker, jobs_clock):
    """Claimed at a shutdown, by a worker without a thread, or by one that does not know the task."""
    for _ in range(3):
        tasks.noop.using(expires=60).enqueue()
    worker = live_worker()
    for requeue, job in zip(REQUEUES, claim_rows(worker, 3), strict=True):
        requeue(job)
    jobs_clock.advance(61)
    run_duty("end expired jobs")
    assert {job.state for job in Job.objects.all()} == {"failed"}

"""Cancel and retry batches, and single jobs of batches."""

import json
import uuid

import pytest
from django.db import OperationalError

from notifications.api import batch, join, task
from notifications.exceptions import JobCancelled, JobFailed, TooManyJobs
from notifications.jobs import cancel, retry
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.batch_rows import claim_all, end, jobs_of, row
from tests.jobs.conftest import notifications_of, until_done
from tests.support.duties import run_duty
from tests.support.outcomes import release
from tests.support.statements import preceded, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django


@task
async def fail_once(path):
    """Fail at the first attempt and succeed at the second one. The file at `path` counts attempts."""
    with open(path, "a+") as file:  # noqa: ASYNC230
        file.write("x")
        if file.tell() == 1:
            raise ValueError("the first time")
    return "now"


#: The queries of the jobs of a batch that are to be cancelled, and retried.
JOBS_TO_CANCEL = r'WHERE \("notifications_job"."batch" IN .*"cancel_requested_at"'
JOBS_TO_RETRY = r'WHERE \("notifications_job"."batch" = '
ZERO_COUNTS = {"succeeded": 0, "failed": 0, "cancelled": 0}


def test_cancelling_a_batch_cancels_its_jobs(start_worker, gate, user):
    """Queued jobs are cancelled immediately, running ones when their tasks end; then the batch is cancelled."""
    start_worker(concurrency=2)
    with batch(owner=user) as b:
        results = [tasks.hold.enqueue(number) for number in range(5)]
    wait_until(lambda: len(tasks.held) == 2, what="two to run")
    assert cancel([b.id], by=user.pk) == {b.id: "asked"}
    with pytest.raises(JobCancelled):
        join(b, timeout=20)
    assert {job.state for job in until_done(*results)} == {"cancelled"}
    assert sorted(tasks.seen) == ["cancelled 0", "cancelled 1"]
    assert notifications_of(user) == []


def test_a_batch_of_queued_jobs_is_cancelled_immediately(user, transactional_db):
    """Its owner is notified if a different user cancelled it."""
    with batch(owner=user, title="Mine") as b:
        for _ in range(3):
            tasks.noop.enqueue()
    cancel([b.id], by=None)
    assert (row(b).state, row(b).progress_current) == ("cancelled", 3)
    assert [(note.title, note.level) for note in notifications_of(user)] == [("Mine", "warning")]


def test_a_released_job_is_cancelled_too(user, transactional_db):
    """A worker released it after its cancellation was requested. Maintenance cancels it without another claim."""
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    cancel([b.id], by=user.pk)
    release(job)
    assert Job.objects.get(id=job.id).state == "queued"
    run_duty("resume cancellations of batches")
    assert (Job.objects.get(id=job.id).state, row(b).state) == ("cancelled", "cancelled")


def test_cancelling_a_batch_whose_jobs_are_done(user, transactional_db):
    """The batch succeeds, because the results were stored before the cancellation took effect."""
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    cancel([b.id], by=user.pk)
    end(job)
    assert row(b).state == "succeeded"


def test_cancelling_single_jobs(user, transactional_db):
    """The batch fails, and its error counts the cancelled jobs."""
    with batch(owner=user) as b:
        first, _, _ = [task.enqueue() for task in (tasks.noop, tasks.fail, tasks.noop)]
    cancel([uuid.UUID(first.id)])
    run_jobs()
    assert json.loads(row(b).error)["detail"] == "1 of 3 done, 1 failed, 1 cancelled"
    with batch(owner=user) as b:
        last = tasks.noop.enqueue()
    cancel([uuid.UUID(last.id)])
    assert json.loads(row(b).error)["detail"] == "0 of 1 done, 1 cancelled"


def test_an_interrupted_cancellation_is_completed(user, transactional_db):
    """The process was killed after the batch was marked and before its jobs were cancelled."""
    with batch(owner=user) as b:
        with batch():
            tasks.noop.enqueue()
        tasks.noop.enqueue()
    with refused(JOBS_TO_CANCEL), pytest.raises(OperationalError):
        cancel([b.id], by=user.pk)
    assert set(Job.objects.values_list("state", flat=True)) == {"running", "queued"}
    run_duty("resume cancellations of batches")
    run_duty("finish batches")
    assert set(Job.objects.values_list("state", flat=True)) == {"cancelled"}
    assert notifications_of(user) == []


def test_retrying_a_batch_retries_its_failed_jobs(worker, user, tmp_path):
    """Its succeeded jobs stay as they are. The new notification replaces the old one."""
    with batch(owner=user) as b:
        good, failing = tasks.echo.enqueue(1), fail_once.enqueue(str(tmp_path / "tries"))
    with pytest.raises(JobFailed):
        join(b, timeout=20)
    before = row(b)
    assert retry([b.id]) == [b.id]
    assert join(b, timeout=20) == {**ZERO_COUNTS, "succeeded": 2}
    job = row(b)
    assert (job.attempt, job.max_attempts, job.error) == (2, 2, None)
    assert (job.fence, job.version > before.version, job.seq > before.seq) == (1, True, True)
    assert Job.objects.get(id=good.id).attempt == 1
    assert Job.objects.get(id=failing.id).attempt == 2
    first, second = notifications_of(user)
    assert (first.level, first.archived_at is None) == ("error", False)
    assert (second.level, second.archived_at is None) == ("success", True)


def test_retrying_nested_batches(user, transactional_db):
    with batch(owner=user) as outer:
        with batch() as inner:
            failing = tasks.fail.enqueue()
        tasks.noop.enqueue()
    run_jobs()
    assert row(outer).state == row(inner).state == "failed"
    Job.objects.filter(id=failing.id).update(task_path=tasks.noop.module_path, args="[]")
    assert retry([outer.id]) == [outer.id]
    assert (row(outer).state, row(inner).state, row(outer).progress_current) == ("running", "running", 1)
    run_jobs()
    assert row(outer).state == row(inner).state == "succeeded"
    assert retry([outer.id]) == []


def test_retrying_a_single_job_reopens_its_batches(user, transactional_db):
    """Their owner is notified again, because the first outcome no longer holds."""
    with batch(owner=user, title="Outer") as outer:
        with batch(title="Inner") as inner:
            failing = tasks.fail.enqueue()
            tasks.noop.enqueue()
        tasks.noop.enqueue()
    run_jobs()
    assert (row(inner).state, row(outer).state) == ("failed", "failed")
    Job.objects.filter(id=failing.id).update(task_path="tests.jobs.tasks.noop")
    assert retry([uuid.UUID(failing.id)]) == [uuid.UUID(failing.id)]
    assert (row(inner).state, row(outer).state) == ("running", "running")
    run_jobs()
    assert (row(inner).state, row(outer).state) == ("succeeded", "succeeded")
    assert [(note.level, bool(note.archived_at)) for note in notifications_of(user)] == [
        ("error", True),
        ("success", False),
    ]


def test_a_retry_above_the_limit_of_active_jobs_queues_nothing(user, settings, transactional_db):
    with batch(owner=user) as b:
        tasks.fail.enqueue()
    run_jobs()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    tasks.noop.using(owner=user).enqueue()
    with pytest.raises(TooManyJobs):
        retry([b.id])
    assert (row(b).state, jobs_of(b).get().state) == ("failed", "failed")


def test_a_retry_that_passes_over_full_owners_counts_their_jobs_once(user, settings, transactional_db):
    """A request enqueues the last allowed job after the count: a second count would end the retry of all jobs."""
    with batch(owner=user) as b:
        tasks.fail.enqueue()
    run_jobs()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    with preceded(JOBS_TO_RETRY, tasks.noop.using(owner=user).enqueue) as statements:
        assert retry([b.id], passes_over_full=True) == [b.id]
    assert statements


@pytest.mark.parametrize("is_full", ["the owner of its job", "its owner"])
def test_a_retry_that_passes_over_all_jobs_of_a_batch(user, other_user, settings, transactional_db, is_full):
    """The batch stays as it is: it would end again with the same failures, and notify its owner again."""
    with batch(owner=user) as b:
        tasks.fail.using(owner=other_user).enqueue()
    run_jobs()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    tasks.noop.using(owner=user if is_full == "its owner" else other_user).enqueue()
    assert retry([b.id], passes_over_full=True) == []
    assert (row(b).state, row(b).attempt, jobs_of(b).get().state) == ("failed", 1, "failed")


def test_a_retry_while_its_batch_ends(user, transactional_db):
    """The retry comes between the check for active jobs and the count: a batch that succeeds then would be final."""
    with batch(owner=user) as b:
        tasks.noop.enqueue(), tasks.noop.enqueue()
    first, last = claim_all()
    end(first, succeeds=False)
    with preceded("COUNT.* GROUP BY", lambda: retry([first.id])) as counts:
        end(last)
    assert counts
    assert row(b).state == "running"
    run_jobs()
    assert json.loads(row(b).result) == {**ZERO_COUNTS, "succeeded": 2}


def retry_failed(done):
    """Retry what has failed, as somebody may do while a batch ends."""
    retry(Job.objects.filter(batch=done.id, state="failed").values_list("id", flat=True))
    return {}


def test_a_job_that_is_retried_while_its_batch_ends(user, transactional_db):
    """The batch goes on, and its end counts what has come of the retry."""
    with batch(owner=user, notify=retry_failed) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    end(job, succeeds=False)
    assert (row(b).state, notifications_of(user)) == ("running", [])
    (again,) = claim_all()
    end(again)
    assert (row(b).state, json.loads(row(b).result)) == ("succeeded", {**ZERO_COUNTS, "succeeded": 1})
    assert len(notifications_of(user)) == 1

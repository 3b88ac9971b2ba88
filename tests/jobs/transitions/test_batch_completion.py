"""Batches end after their last job, whichever process finishes it, and also when they are nested."""

import json
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api import batch, join
from notifications.exceptions import JobCancelled
from notifications.jobs import cancel
from notifications.jobs.transitions import batch_completion
from notifications.models import Job
from notifications.signals import job_finished
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.batch_rows import claim_all, end, row
from tests.jobs.conftest import notifications_of
from tests.jobs.test_batch_cancel_and_retry import JOBS_TO_CANCEL
from tests.support.duties import run_duty
from tests.support.outcomes import record, succeeded
from tests.support.statements import preceded, refused

ZERO_COUNTS = {"succeeded": 0, "failed": 0, "cancelled": 0}


#: The query by which batches end. If it fails, it is as if the process was killed between the last job and that.
BATCHES_WITH_ACTIVE_JOBS = '"worker" IS NULL AND EXISTS'
#: The query before progress is stored.
BATCHES_IN_PROGRESS = '"worker" IS NULL AND .*ORDER BY'


def test_queries_do_not_grow_with_the_number_of_batches(user, transactional_db):
    """A group of outcomes may belong to as many batches: their progress is stored in one transaction."""
    numbers = []
    for count in (1, 20):
        batches = []
        for _ in range(count):
            with batch(owner=user) as b:
                tasks.noop.enqueue(), tasks.noop.enqueue()
            batches.append(b)
        # The first job of each batch.
        jobs = {job.batch: job for job in claim_all()}.values()
        Job.objects.filter(id__in=[job.id for job in jobs]).update(state="succeeded")
        with CaptureQueriesContext(connection) as captured:
            assert batch_completion.collect_outcomes(job.batch for job in jobs) == []
        numbers.append(len(captured))
        assert [row(b).progress_current for b in batches] == [1] * count
    assert numbers[0] == numbers[1]


def test_two_processes_finish_the_last_jobs(user, transactional_db):
    """Both see that no job is active, and one of them ends the batch."""
    with batch(owner=user) as b:
        for _ in range(2):
            tasks.noop.enqueue()
    finished = []

    def count(job, **kwargs):
        finished.append(job.id)

    Job.objects.filter(batch=b.id).update(state="succeeded")
    [first], [second] = batch_completion.collect_outcomes([b.id]), batch_completion.collect_outcomes([b.id])
    job_finished.connect(count)
    try:
        assert record(first)
        assert record(second)
    finally:
        job_finished.disconnect(count)
    assert finished == [b.id]
    assert len(notifications_of(user)) == 1
    assert batch_completion.collect_outcomes([b.id]) == []


def test_progress_does_not_go_back(user, transactional_db):
    """Another process counts after this one, and stores more before it."""
    with batch(owner=user) as b:
        for _ in range(3):
            tasks.noop.enqueue()
    Job.objects.filter(id=claim_all()[0].id).update(state="succeeded")

    def store_more():
        Job.objects.filter(id=b.id).update(progress_current=2)

    with preceded(BATCHES_IN_PROGRESS, store_more) as overtaken:
        batch_completion.collect_outcomes([b.id])
    assert overtaken and row(b).progress_current == 2


def test_threads_finish_jobs_of_one_batch(user, transactional_db):
    """Four threads finish the jobs of a batch at the same time, 15 times: each batch ends, with one notification."""
    batches = []
    for _ in range(15):
        with batch(owner=user) as b:
            for _ in range(4):
                tasks.noop.enqueue()
        batches.append(b)
        barrier, errors = threading.Barrier(4), []

        def finish(job, barrier=barrier, errors=errors):
            try:
                barrier.wait(20)
                end(job)
            except Exception as exc:
                errors.append(exc)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=finish, args=[job]) for job in claim_all()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert row(b).state == "succeeded"
    assert sorted(note.job for note in notifications_of(user)) == sorted(b.id for b in batches)


def test_a_worker_ends_interrupted_batches(user, transactional_db, start_worker):
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    with refused(BATCHES_WITH_ACTIVE_JOBS):
        end(*claim_all())
    start_worker()
    assert join(b, timeout=20) == {**ZERO_COUNTS, "succeeded": 1}


def test_a_worker_completes_a_cancellation(user, transactional_db, start_worker):
    """The process that cancelled was killed after it had marked the batch."""
    with batch(owner=user) as b:
        tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    with refused(JOBS_TO_CANCEL), pytest.raises(OperationalError):
        cancel([b.id], by=user.pk)
    start_worker()
    with pytest.raises(JobCancelled):
        join(b, timeout=20)


def test_an_error_at_the_end_of_a_batch_loses_no_outcome(user, transactional_db, caplog):
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    with refused(BATCHES_WITH_ACTIVE_JOBS):
        assert record(succeeded(job, 1))
    assert "Could not end batches, which a worker tries again." in caplog.text
    run_duty("finish batches")
    assert row(b).state == "succeeded"


def test_a_running_batch_is_not_reaped(user, transactional_db):
    """It has no worker that could be lost."""
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    run_duty("take jobs from lost workers")
    assert row(b).state == "running"


def test_a_nested_batch(user, transactional_db):
    """It is one of the jobs of the outer batch, with a result of its own and no notification."""
    with batch(owner=user, title="Outer") as outer:
        tasks.echo.enqueue(1)
        with batch(title="Inner") as inner:
            tasks.echo.enqueue(2)
            tasks.fail.enqueue()
        assert not Job.objects.exists()
    assert (row(outer).progress_total, row(inner).progress_total) == (2, 2)
    assert (row(inner).user_id, row(inner).batch) == (None, outer.id)
    run_jobs()
    assert (row(outer).state, row(inner).state) == ("failed", "failed")
    assert json.loads(row(inner).error)["detail"] == "1 of 2 done, 1 failed"
    assert json.loads(row(outer).error)["detail"] == "1 of 2 done, 1 failed"
    assert [note.title for note in notifications_of(user)] == ["Outer"]
    assert inner.result.id == str(inner.id)

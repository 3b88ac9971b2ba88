"""The end of batches: after their last job, whoever records it, and of nested batches."""

import json
import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from notifications.api import batch, join
from notifications.exceptions import JobCancelled
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import (
    batch_completion,
    finishing,
    manual,
    outcomes,
    reaping,
    recording,
)
from notifications.models import Job
from notifications.signals import job_finished
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.batch_rows import claim_all, end, row
from tests.jobs.conftest import notifications_of

ALL = {"succeeded": 0, "failed": 0, "cancelled": 0}


@pytest.fixture
def nobody_settles():
    """As if every process died after its jobs were stored and before their batch was settled, until it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing, "finish_batches", lambda batches: None)
        patch.setattr(manual, "finish_batches", lambda batches: None)
        yield patch.undo


def test_two_who_finish_the_last_ones_at_once(demo, transactional_db):
    """Both see that nothing is active any more; one of them ends the batch."""
    with batch(owner=demo) as b:
        for _ in range(2):
            tasks.noop.enqueue()
    finished = []

    def count(job, **kwargs):
        finished.append(job.id)

    jobs = claim_all()
    recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, 1) for job in jobs])
    first, second = batch_completion.collect_outcomes([b.id]), batch_completion.collect_outcomes([b.id])
    assert len(first) == len(second) == 1
    job_finished.connect(count)
    try:
        finishing.finish_jobs(first)
        finishing.finish_jobs(second)
    finally:
        job_finished.disconnect(count)
    assert finished == [b.id]
    assert len(notifications_of(demo)) == 1
    assert batch_completion.collect_outcomes([b.id]) == []


def test_threads_that_finish_jobs_of_one_batch(demo, transactional_db):
    """Round after round, at the same moment: it is always ended, and told once."""
    batches = []
    for _ in range(15):
        with batch(owner=demo) as b:
            for _ in range(4):
                tasks.noop.enqueue()
        batches.append(b)
        together, errors = threading.Barrier(4), []

        def finish(job, together=together, errors=errors):
            try:
                together.wait(20)
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
    assert sorted(note.job for note in notifications_of(demo)) == sorted(b.id for b in batches)


def test_nobody_settled(demo, nobody_settles, transactional_db):
    """Killed between the last job and the end of the batch: whoever keeps house ends it."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    with batch(owner=demo) as running:
        tasks.noop.enqueue()
    first, second = claim_all()
    end(first)
    assert row(b).state == "running"
    nobody_settles()
    finishing.finish_remaining_batches()
    assert row(b).state == "succeeded"
    assert row(running).state == "running"
    assert [note.job for note in notifications_of(demo)] == [b.id]
    end(second)
    assert row(running).state == "succeeded"


def test_a_worker_settles_what_was_left(demo, nobody_settles, transactional_db, start_worker):
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    end(*claim_all())
    nobody_settles()
    start_worker()
    assert join(b, timeout=20) == {**ALL, "succeeded": 1}


def test_a_worker_goes_on_cancelling(demo, transactional_db, start_worker):
    """Whoever cancelled was killed after the batch was marked: its jobs are held back, and cancelled by a worker."""
    with batch(owner=demo) as b:
        tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manual, "_cancel_jobs_of", lambda batches, by: None)
        manual.cancel([b.id], by=demo.pk)
    start_worker()
    with pytest.raises(JobCancelled):
        join(b, timeout=20)


def test_an_error_while_settling_loses_no_outcome(demo, transactional_db, monkeypatch, caplog):
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    monkeypatch.setattr(batch_completion, "collect_outcomes", lambda batches: 1 / 0)
    assert finishing.finish_jobs([outcomes.succeeded(job, DEFAULT_POLICY, 1)]) == {(job.id, job.fence)}
    assert "Could not end batches, which a worker tries again." in caplog.text
    monkeypatch.undo()
    finishing.finish_remaining_batches()
    assert row(b).state == "succeeded"


def test_a_batch_has_no_worker_to_lose(demo, transactional_db):
    """It runs without one, and is not taken away from anybody."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    assert reaping.reap_jobs([uuid.uuid4()]) == 0
    assert row(b).state == "running"


def test_nested(demo, transactional_db):
    """A batch inside a batch is one of its jobs, with a result of its own, and tells nobody."""
    with batch(owner=demo, title="Outer") as outer:
        tasks.echo.enqueue(1)
        with batch(title="Inner") as inner:
            tasks.echo.enqueue(2)
            tasks.fail.enqueue()
        assert not Job.objects.exists()
    assert (row(outer).progress_total, row(inner).progress_total) == (2, 2)
    assert (row(inner).user_id, row(inner).batch) == (None, outer.id)
    run_jobs()
    assert (row(outer).state, row(inner).state) == ("failed", "failed")
    assert json.loads(row(inner).error)["detail"] == "1 of 2 failed."
    assert json.loads(row(outer).error)["detail"] == "1 of 2 failed."
    assert [note.title for note in notifications_of(demo)] == ["Outer"]
    assert inner.result.id == str(inner.id)

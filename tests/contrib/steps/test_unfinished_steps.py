"""Calls of steps that have stored no result: they run, or have raised."""

import pytest
from django.db import DataError
from django.utils import timezone

from notifications.contrib.steps import storage
from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.contrib.steps.storage import StepWrite, note_running
from notifications.jobs import retry
from notifications.jobs.step_list import read_steps
from notifications.models import Job
from notifications.streams.retention import Pruning
from notifications.testing import run_until_idle
from notifications.worker.running_jobs import PROGRESS_INTERVAL_SECONDS
from tests.contrib.steps import step_tasks
from tests.contrib.steps.test_steps import calls  # noqa: F401 (a fixture)
from tests.jobs.conftest import until_done
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.database_law


def shown(job):
    return [(step.name, step.attempt, step.state) for step in read_steps(job, with_results=True).first]


def test_a_call_that_takes_long_is_shown_while_it_runs(worker, user):
    """The version of the job rises when it is stored, and when the call has ended: that rings for the owner."""
    result = step_tasks.hold_in_sync_step.using(owner=user).enqueue()
    wait_until(lambda: UnfinishedStep.objects.exists(), what="the call to be stored")
    wait_until(lambda: Job.objects.get().version == 3, what="a ring")
    job = Job.objects.get()
    assert shown(job) == [("held", 1, "running")]
    assert read_steps(job, with_results=True).first[0].is_open
    step_tasks.go_on.set()
    (job,) = until_done(result)
    assert shown(job) == [("held", 1, "returned"), ("after", 1, "returned")]
    assert not UnfinishedStep.objects.exists()


def test_a_call_that_has_raised_stays(worker):
    """Beside that of the later attempt, which has returned."""
    (job,) = until_done(step_tasks.fail_in_the_second.enqueue())
    assert shown(job) == [("first", 1, "returned"), ("second", 1, "failed"), ("second", 2, "returned")]
    assert read_steps(job, with_results=True).first[1].end == "Failed"
    assert retry([job.id], from_start=True) == []  # it has succeeded
    Job.objects.update(state="failed")
    retry([job.id], from_start=True)
    assert not UnfinishedStep.objects.exists()


def test_a_call_of_an_earlier_claim_does_not_run(worker):
    """Nor is it stored any more that it runs."""
    step_tasks.hold_in_sync_step.enqueue()
    wait_until(lambda: UnfinishedStep.objects.exists(), what="the call to be stored")
    claimed = Job.objects.get()
    Job.objects.update(fence=7)
    job = Job.objects.get()
    assert shown(job) == [("held", 1, "lost")]
    assert not read_steps(job, with_results=True).first[0].is_open
    call = StepWrite(job=claimed, name="other", started_at=job.started_at)
    assert note_running([call]) == [call]
    assert UnfinishedStep.objects.count() == 1
    step_tasks.go_on.set()
    wait_until(lambda: not worker.worker.state.executions, what="the attempt to end")


def test_a_call_that_the_database_refuses_to_show(worker, caplog):
    """It goes on, unseen, and the results of others are stored meanwhile."""
    with refused("INSERT INTO .notifications_steps_unfinishedstep.*held", error=DataError) as found:
        result = step_tasks.hold_in_sync_step.enqueue()
        wait_until(lambda: "Could not store that 1 steps run" in caplog.text, what="the refusal")
        until_done(step_tasks.ten_steps.enqueue())
    step_tasks.go_on.set()
    (job,) = until_done(result)
    assert job.state == "succeeded" and len(found) == 1
    assert "A loop of the worker failed" not in caplog.text


def test_many_short_calls_ring_rarely(worker, user):
    """Each claim, progress and end of a job raises its version once; 400 steps only by the interval of progress."""
    (job,) = until_done(step_tasks.many_steps.using(owner=user).enqueue(400))
    took = (job.finished_at - job.started_at).total_seconds()
    assert Step.objects.count() == 400
    assert 4 <= job.version <= 4 + took / PROGRESS_INTERVAL_SECONDS


def test_a_job_that_is_done_soon_rings_as_one_without_steps(worker, user, monkeypatch):
    monkeypatch.setattr(storage, "FOLLOW_INTERVAL_SECONDS", 30)
    (job,) = until_done(step_tasks.many_steps.using(owner=user).enqueue(20))
    assert job.version == 3


def test_pruned_with_their_jobs(worker):
    until_done(step_tasks.fail_in_the_second.enqueue())
    assert UnfinishedStep.objects.count() == 1
    pruning = Pruning(timezone.now())
    while pruning.prune_chunk() is not None:
        pass
    assert not Job.objects.exists() and not UnfinishedStep.objects.exists()


def test_inline_calls_that_raise_are_not_stored(db):
    step_tasks.fail_in_the_second.enqueue()
    run_until_idle()
    assert not UnfinishedStep.objects.exists()

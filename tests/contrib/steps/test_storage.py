"""How steps are stored."""

import asyncio
from copy import copy

import pytest
from django.utils import timezone

from notifications.api import task
from notifications.contrib.steps import astep
from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.contrib.steps.storage import StepLoop, StepWrite, note_running, store_steps
from notifications.contrib.steps.testing import steps as stored_steps
from notifications.jobs import cancel
from notifications.models import Attempt, Job
from tests.contrib.steps import step_tasks
from tests.contrib.steps.step_tasks import pay
from tests.jobs.conftest import until_done, until_state
from tests.support.shown_jobs import show_job
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.database_law


@task
async def one_step():
    return await astep("first", pay, "first")


def test_a_step_of_a_cancelled_job_is_stored(worker, monkeypatch):
    """The function has returned when the job is cancelled, and its result waits to be stored."""
    store = StepLoop._store

    async def store_later(loop, group):
        step_tasks.entered.set()
        while not step_tasks.go_on.is_set():  # noqa: ASYNC110  # the test sets it, on another thread
            await asyncio.sleep(0.01)
        return await store(loop, group)

    monkeypatch.setattr(StepLoop, "_store", store_later)
    result = one_step.enqueue()
    wait_until(step_tasks.entered.is_set, what="the step to be stored")
    cancel([result.id])
    [execution] = worker.worker.state.executions.values()
    wait_until(lambda: execution.is_over, what="the task to end")
    assert Job.objects.get(id=result.id).state == "running"
    step_tasks.go_on.set()
    until_state(result, "cancelled")
    assert stored_steps(result) == {"first": {"paid": "first"}}


def test_a_refused_result_fails_its_step_only(worker):
    """The database refuses one of a group: the others are stored."""

    with refused("INTO notifications_steps_step.*step 3", error=ValueError):
        (job,) = until_done(step_tasks.side_by_side.enqueue(10))
    assert job.state == "failed"
    assert "The database is away" in Attempt.objects.get(job=job).traceback
    assert Step.objects.count() == 9


def test_groups_of_several_jobs(db):
    """In one transaction; one whose job is claimed by another worker is void, one that is done too."""
    jobs = [Job.objects.get(id=step_tasks.ten_steps.enqueue().id) for _ in range(4)]
    Job.objects.filter(id__in=[job.id for job in jobs[:3]]).update(state="running", fence=1)
    now = timezone.now()
    for job, fence in zip(jobs, (1, 1, 2, 0), strict=True):
        job.fence = fence
    writes = [
        StepWrite(job=job, name="a", result=f'"{n}"', started_at=now, ended_at=now)
        for n, job in enumerate(jobs)
    ]
    assert store_steps(writes) == dict(zip(writes, ('"0"', '"1"', None, None), strict=True))
    assert Step.objects.count() == 2
    assert store_steps(writes[:1]) == {writes[0]: '"0"'}


@pytest.mark.parametrize("stale_first", [True, False])
def test_two_claims_of_a_job_in_one_group(db, stale_first):
    """A worker that was frozen may claim its own job anew: the first execution stores nothing, the second all."""
    live = Job.objects.get(id=step_tasks.ten_steps.enqueue().id)
    Job.objects.filter(id=live.id).update(state="running", fence=2)
    live.fence = 2
    stale = copy(live)
    stale.fence = 1
    now = timezone.now()
    writes = [
        StepWrite(job=job, name=name, result='""', started_at=now, ended_at=now)
        for job, name in ((stale, "a"), (live, "b"))
    ]
    stored = store_steps(writes if stale_first else writes[::-1])
    assert stored == {writes[0]: None, writes[1]: '""'}
    assert Step.objects.get().name == "b"


def test_a_call_of_an_earlier_claim_does_not_run(worker):
    """Nor is it stored any more that it runs, as that of a call that has ended meanwhile."""
    step_tasks.hold_in_sync_step.enqueue()
    wait_until(lambda: UnfinishedStep.objects.exists(), what="the call to be stored")
    claimed = Job.objects.get()
    ended = StepWrite(job=claimed, name="ended", started_at=claimed.started_at)
    ended.end(None)
    assert note_running([ended]) == [ended]
    Job.objects.update(fence=7)
    job = Job.objects.get()
    [held] = show_job(job.id)["steps"]
    assert (held["name"], held["attempt"], held["state"]) == ("held", 1, "lost")
    call = StepWrite(job=claimed, name="other", started_at=job.started_at)
    assert note_running([call]) == [call]
    assert UnfinishedStep.objects.count() == 1
    step_tasks.go_on.set()
    wait_until(lambda: not worker.worker.state.executions, what="the attempt to end")

"""How steps are stored."""

import asyncio

import pytest

from notifications.contrib.steps.storage import StepLoop
from notifications.contrib.steps.testing import steps as stored_steps
from notifications.jobs import cancel
from notifications.models import Job
from tests.contrib.steps import step_tasks
from tests.jobs.conftest import until_state
from tests.support.waiting import wait_until

pytestmark = pytest.mark.database_law


def test_a_step_of_a_cancelled_job_is_stored(worker, monkeypatch):
    """The function has returned when the job is cancelled, and its result waits to be stored."""
    store = StepLoop._store

    async def store_later(loop, group):
        step_tasks.entered.set()
        while not step_tasks.go_on.is_set():  # noqa: ASYNC110  # the test sets it, on another thread
            await asyncio.sleep(0.01)
        return await store(loop, group)

    monkeypatch.setattr(StepLoop, "_store", store_later)
    result = step_tasks.one_step.enqueue()
    wait_until(step_tasks.entered.is_set, what="the step to be stored")
    cancel([result.id])
    [execution] = worker.worker.state.executions.values()
    wait_until(lambda: execution.is_over, what="the task to end")
    assert Job.objects.get(id=result.id).state == "running"
    step_tasks.go_on.set()
    until_state(result, "cancelled")
    assert stored_steps(result) == {"first": {"paid": "first"}}

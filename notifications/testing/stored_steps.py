"""The steps of jobs: store them inline, and read them in assertions."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import datetime
from typing import Any
from uuid import UUID


def steps(job: Any) -> dict[str, Any]:
    """Return the stored results of a job's steps by name, in the order in which they were stored.

    ``job`` is what ``enqueue`` returned, or an id::

        result = ship.enqueue(order.pk)
        run_jobs()
        assert steps(result) == {"charge": {"id": "ch_1"}, "label": {"number": 7}}
    """
    from notifications.operations.step_list import read_results

    id = getattr(job, "id", job)
    return read_results(id if isinstance(id, UUID) else UUID(id))


def store_step(
    execution: Any, name: str, result: str, started_at: datetime, ended_at: datetime
) -> Future[str]:
    """Store the result of a step on the caller's connection."""
    from notifications.exceptions import AttemptEnded
    from notifications.jobs.transitions.step_storage import StepWrite, store_steps

    write = StepWrite(job=execution.job, name=name, result=result, started_at=started_at, ended_at=ended_at)
    stored = store_steps([write])[write]
    if stored is None:
        write.future.set_exception(AttemptEnded())
    else:
        write.future.set_result(stored)
    return write.future

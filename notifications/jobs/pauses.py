"""Pauses: a job waits for a time, without a worker, a thread or a connection.

No model is imported at the top: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from notifications.context import CurrentExecution
from notifications.db.transactions import database
from notifications.exceptions import JobSuspended
from notifications.jobs.durable_calls import (
    acall_when_available,
    begin,
    call_when_available,
    is_stored,
    may_have_stored,
    refuse_in_transaction,
)
from notifications.jobs.job_context import refuse_on_event_loop

if TYPE_CHECKING:
    from notifications.models import Wait

#: The longest time for which a job waits.
MAX_DURATION = timedelta(days=3660)


def pause(name: str, duration: timedelta) -> None:
    """Suspend the job for some time. Its function is then called again from the start, and goes on from here.

    ::

        step("send-first", send_mail, "welcome", user.pk)
        pause("three-days", timedelta(days=3))
        step("send-second", send_mail, "tips", user.pk)

    ``name``
        As that of ``step()``, of whose names it must differ: what is before the pause belongs into steps.
    ``duration``
        More than nothing, at most ten years. It counts from when the pause is stored; a deploy with another duration
        does not change a pause that has begun.

    The job is ``waiting`` meanwhile, and holds no slot, lease or ``concurrency_key``.
    Neither the pause counts for its ``timeout``, nor the next attempt for its ``max_attempts``.

    Raises ``JobSuspended`` of ``notifications.exceptions``, which the task must let pass; RuntimeError outside of a
    job, inside a transaction and in an observed Celery task.
    """
    refuse_on_event_loop("pause")
    duration, execution = validate_duration("duration", duration), begin_wait("pause", name)
    refuse_in_transaction(execution, "pause")
    if not call_when_available(execution, _has_ended, execution, name):
        _suspend(execution, name, duration)


async def apause(name: str, duration: timedelta) -> None:
    """See pause(). asyncio tasks that the job has started are cancelled."""
    duration, execution = validate_duration("duration", duration), begin_wait("apause", name)
    if not may_have_stored(execution) or not await acall_when_available(
        execution, _has_ended, execution, name
    ):
        _suspend(execution, name, duration)


def begin_wait(function: str, name: Any) -> CurrentExecution:
    """Validate the name of a wait, and note it in the execution of the job that calls this function."""
    execution = begin(name)
    if execution is None:
        raise RuntimeError(f"{function}() was called outside of a job, which it suspends. Call it in a task.")
    return execution


def suspend(execution: CurrentExecution, waits: Sequence[Wait]) -> NoReturn:
    """End the execution, whose job waits for these. Those that are stored already stay as they are."""
    if not execution.waits:
        execution.waits = waits  # type: ignore[misc]  # a slot of Execution
    raise JobSuspended


def _has_ended(execution: CurrentExecution, name: str) -> bool:
    from notifications.models import Wait

    if not is_stored(execution, name, "pause"):
        return False
    rows = Wait.objects.using(database()).filter(job=execution.job.id, name=name)
    return bool(rows.filter(ended_at__isnull=False).exists())


def _suspend(execution: CurrentExecution, name: str, duration: timedelta) -> NoReturn:
    from notifications.models import Wait

    wait = Wait(job=execution.job.id, name=name, kind="pause", attempt=execution.job.attempt)
    wait.lasts = duration
    suspend(execution, [wait])


def validate_duration(name: str, duration: Any) -> timedelta:
    """Return how long a job waits. Raises TypeError and ValueError."""
    if not isinstance(duration, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {type(duration).__name__}.")
    if not timedelta() < duration <= MAX_DURATION:
        raise ValueError(
            f"{name} is {duration}. It must be more than nothing, and at most {MAX_DURATION.days} days."
        )
    return duration

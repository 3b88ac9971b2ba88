"""Calls that outlast an execution of their job: pauses, and what steps and all kinds of waits share.

A task calls them by verbs such as ``pause()``, each with a name that is unique in its job. What a verb stores under a
name is returned by later executions of the job without another call, and while the database is away it is tried again.

No model is imported at the top: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence, Sized
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.views.decorators.debug import sensitive_variables

from notifications import validators
from notifications.context import CurrentExecution, ExecutionSteps, current_execution
from notifications.db.threads import DaemonExecutor
from notifications.db.transactions import database, in_callers_transaction
from notifications.db.unavailable import is_unavailable
from notifications.exceptions import AttemptEnded, JobSuspended
from notifications.extension import hooks

if TYPE_CHECKING:
    from notifications.models import Wait

logger = logging.getLogger("notifications.jobs")
P = ParamSpec("P")
R = TypeVar("R")

#: Steps and waits that one job may have.
MAX_STEPS = 10_000
#: Seconds between two calls while the database is away.
RETRY_INTERVAL_SECONDS = 0.5
#: The longest time for which a job waits.
MAX_DURATION = timedelta(days=3660)


def begin(name: Any) -> CurrentExecution | None:
    """Validate the name of a step or wait, and note it in the execution that calls this; None outside of a job."""
    name = validators.text("name", name, validators.MAX_KEY_LENGTH, required=True)
    execution = current_execution()
    if execution is None:
        return None
    if execution.is_observed:
        raise RuntimeError(
            "An observed Celery task cannot have steps, nor wait, because Celery decides when it runs again. Make it "
            "a @task."
        )
    if execution.is_over or execution.is_stopping:
        raise AttemptEnded
    if execution.waits:
        raise JobSuspended  # by another task of a gather(), or it was caught
    used_names = steps_of(execution).used_names
    if name in used_names:
        raise ValueError(
            f"The name {name!r} was used before in this attempt. Give each step and each wait a name of its own."
        )
    _refuse_more(used_names)
    used_names.add(name)
    return execution


def _refuse_more(names: Sized) -> None:
    if len(names) >= MAX_STEPS:
        raise ValueError(
            f"The job has {MAX_STEPS} steps and waits, and may not have more. Divide its work among jobs."
        )


def steps_of(execution: CurrentExecution) -> ExecutionSteps:
    """Return what an execution knows of its steps and waits. The first call creates it."""
    if execution.steps is None:
        execution.steps = ExecutionSteps()  # type: ignore[misc]  # a slot of Execution
    return execution.steps


def may_have_stored(execution: CurrentExecution) -> bool:
    """Return whether an earlier execution may have stored something: the first claim raises the fence to 1."""
    return execution.job.fence > 1


def is_stored(execution: CurrentExecution, name: str, kind: str) -> bool:
    """Return whether something is stored under a name. What is stored is read once in an execution.

    Raises ValueError if it is of another kind than a "step", or than this one of ``Wait``, or one more than a job has.
    """
    from notifications.models import Wait

    if not may_have_stored(execution):
        return False
    steps = steps_of(execution)
    if steps.stored_kinds is None:
        waits = Wait.objects.using(database()).filter(job=execution.job.id)
        kinds = dict(waits.values_list("name", "kind"))
        for hook in hooks.steps_of:
            found, _ = hook(execution.job, MAX_STEPS, with_results=False, with_unfinished=False)
            kinds |= dict.fromkeys((step.name for step in found), "step")
        steps.stored_kinds = kinds
    stored_kind = steps.stored_kinds.get(name, kind)
    if stored_kind != kind:
        raise ValueError(
            f"The name {name!r} is that of a {stored_kind} of this job, and cannot be that of a {kind}. "
            "Use another one."
        )
    if name not in steps.stored_kinds:
        _refuse_more(steps.stored_kinds)  # of attempts that have used other names
        return False
    return True


@sensitive_variables("args", "kwargs")
def call_when_available(
    execution: CurrentExecution, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return what ``func`` returns. While the database is away it is called again, until the attempt has to end.

    An outage must not fail a job that would only read what it has paid for.
    """
    while True:
        try:
            return func(*args, **kwargs)
        except Exception as exc:
            if not _may_try_again(execution, exc):
                raise
        time.sleep(RETRY_INTERVAL_SECONDS)


@sensitive_variables("args", "kwargs")
async def acall_when_available(
    execution: CurrentExecution, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """See call_when_available(). ``func`` is called in a thread."""
    while True:
        try:
            return await sync_to_async(func)(*args, **kwargs)
        except Exception as exc:
            if not await sync_to_async(_may_try_again)(execution, exc):
                raise
        await asyncio.sleep(RETRY_INTERVAL_SECONDS)


def _may_try_again(execution: CurrentExecution, exc: Exception) -> bool:
    """Return whether a later call may succeed. Closes the connections of this thread that are broken."""
    if not is_unavailable(exc) or execution.run_inline or execution.is_over or execution.is_stopping:
        return False
    if in_callers_transaction():
        return False
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
    logger.warning(
        "Could not read what a job has stored, which is tried again: job %s: %s", execution.job.id, exc
    )
    return True


def refuse_on_event_loop(name: str) -> None:
    """Raise SynchronousOnlyOperation if the function of this name, which waits, would block an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SynchronousOnlyOperation(f"{name}() would block the event loop. Use await a{name}().")
    execution = current_execution()
    thread = execution.database_thread if execution else None
    if isinstance(thread, DaemonExecutor) and thread.runs_this_thread():
        raise SynchronousOnlyOperation(
            f"{name}() would block the database thread that this async task shares with others. Use await a{name}()."
        )


def refuse_in_transaction(execution: CurrentExecution, function: str) -> None:
    """Refuse to store what stays when the transaction is rolled back, and for which SQLite's lock is held."""
    if in_callers_transaction() and not execution.run_inline:
        raise RuntimeError(
            f"{function}() was called inside a transaction, with which it could not be stored. Call it outside of the "
            "atomic block; the function of a step may open one."
        )


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

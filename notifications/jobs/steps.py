"""Steps: calls inside a task whose results are stored, so that no later attempt makes them again.

No model is imported at the top: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sized
from concurrent.futures import Future
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async
from django.db import connections
from django.views.decorators.debug import sensitive_variables

from notifications import times, validators
from notifications.context import CurrentExecution, ExecutionSteps, current_execution, entered_step
from notifications.db.transactions import database, in_callers_transaction
from notifications.db.unavailable import is_unavailable
from notifications.exceptions import AttemptEnded, JobSuspended
from notifications.jobs.job_context import refuse_on_event_loop
from notifications.jobs.step_values import decode, encode

logger = logging.getLogger("notifications.jobs")

P = ParamSpec("P")
R = TypeVar("R")

#: Steps that one job may have.
MAX_STEPS = 10_000
#: Seconds between two calls while the database is away.
RETRY_INTERVAL_SECONDS = 0.5


def step(name: str, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what ``func(*args, **kwargs)`` returns; if an earlier attempt of the job has stored it, without the call.

    ::

        charge = step("charge", pay, order.pk)
        label = step("label", print_label, order.pk, charge["id"])

    ``name``
        At most 200 characters, unique in the job for its whole life: what is stored under a name is returned whatever
        function and arguments are given with it. Raises ValueError where an attempt uses a name twice.
    ``func``
        A function that returns JSON of at most 1 MiB, in which ``Decimal``, ``datetime``, ``date``, ``time`` and
        ``UUID`` keep their types. What it raises is not stored.

    The result is returned as it is stored, a tuple as a list, also in the attempt that made the call. A job that dies
    between a call and its storing makes that call again, with the same ``Idempotency-Key`` in its outbound requests.
    Results survive retries, also by hand, and are deleted with the job. A job has at most 10,000.

    Outside of a job the function is called and nothing is stored. Raises RuntimeError inside a transaction, because the
    result would stay after its rollback, and in an observed Celery task; TypeError or ValueError for a result that
    cannot be stored, after the call. In an attempt that is over, ``AttemptEnded`` of ``notifications.exceptions``.
    """
    if iscoroutinefunction(func):
        raise TypeError(f"{func!r} is async, which step() cannot call. Use await astep().")
    refuse_on_event_loop("step")
    execution = begin(name)
    if execution is None:
        return decode(encode(name, func(*args, **kwargs)))
    refuse_in_transaction(execution, "step")
    result = call_when_available(execution, _read_result, execution, name)
    if result is None:
        started_at = times.now()
        with entered_step(execution.job.id, name):
            value = func(*args, **kwargs)
        result = _store(execution, name, encode(name, value), started_at).result()
    return decode(result)


@overload
async def astep(name: str, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def astep(name: str, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def astep(name: str, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """See step(). ``func`` is async, or sync and called in a thread. ``asyncio.gather()`` runs steps side by side."""
    execution = begin(name)
    if execution is None:
        return decode(encode(name, await _call(func, args, kwargs)))
    result: str | None = None
    if may_have_stored(execution):
        result = await acall_when_available(execution, _read_result, execution, name)
    if result is None:
        started_at = times.now()
        with entered_step(execution.job.id, name):
            value = await _call(func, args, kwargs)
        text = encode(name, value)
        if execution.run_inline:
            future = await sync_to_async(_store)(execution, name, text, started_at)
        else:
            future = _store(execution, name, text, started_at)
        result = await asyncio.wrap_future(future)
    return decode(result)


async def _call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if iscoroutinefunction(func):
        return await func(*args, **kwargs)
    value = await sync_to_async(func)(*args, **kwargs)
    return await value if isawaitable(value) else value


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
    used_names = _steps_of(execution).used_names
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


def _steps_of(execution: CurrentExecution) -> ExecutionSteps:
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
    from notifications.models import Step, Wait

    if not may_have_stored(execution):
        return False
    steps = _steps_of(execution)
    if steps.stored_kinds is None:
        stored = Step.objects.using(database()).filter(job=execution.job.id)
        waits = Wait.objects.using(database()).filter(job=execution.job.id)
        kinds = dict.fromkeys(stored.values_list("name", flat=True), "step")
        steps.stored_kinds = kinds | dict(waits.values_list("name", "kind"))
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


def _read_result(execution: CurrentExecution, name: str) -> str | None:
    """Return the stored result of a step, None if it has none."""
    from notifications.models import Step

    if not is_stored(execution, name, "step"):
        return None
    rows = Step.objects.using(database()).filter(job=execution.job.id, name=name)
    result: str = rows.values_list("result", flat=True).get()
    return result


def _store(execution: CurrentExecution, name: str, result: str, started_at: Any) -> Future[str]:
    """Begin to store a result, and return the future of what is stored under the name."""
    writes = _steps_of(execution).writes
    part = execution.parts["notifications_steps"]
    future: Future[str] = part.add(execution, name, result, started_at, times.now())
    writes.add(future)
    future.add_done_callback(writes.discard)
    return future


def refuse_in_transaction(execution: CurrentExecution, function: str) -> None:
    """Refuse to store what stays when the transaction is rolled back, and for which SQLite's lock is held."""
    if in_callers_transaction() and not execution.run_inline:
        raise RuntimeError(
            f"{function}() was called inside a transaction, with which it could not be stored. Call it outside of the "
            "atomic block; the function of a step may open one."
        )

"""Steps: calls inside a task whose results are stored, so that no later attempt makes them again.

No model is imported at the top: modules with tasks may be imported before the models are ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async

from notifications.context import entered_step
from notifications.contrib.steps.values import decode, encode
from notifications.db import database
from notifications.extension import require
from notifications.jobs import is_stored, refuse_in_transaction, refuse_on_event_loop, steps_of
from notifications.jobs.durable_calls import begin, may_have_stored
from notifications.worker import CurrentExecution, acall_when_available, call_when_available

#: The label of the app, by which its part of the worker is found.
LABEL = "notifications_steps"

P = ParamSpec("P")
R = TypeVar("R")


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
    execution = _begin(name)
    if execution is None:
        return decode(encode(name, func(*args, **kwargs)))
    refuse_in_transaction(execution, "step")
    result = call_when_available(execution, _read_result, execution, name)
    if result is None:
        with _begun(execution, name) as call:
            text = encode(name, func(*args, **kwargs))
        result = _store(execution, call, text).result()
    return decode(result)


@overload
async def astep(name: str, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def astep(name: str, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def astep(name: str, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """See step(). ``func`` is async, or sync and called in a thread. ``asyncio.gather()`` runs steps side by side."""
    execution = _begin(name)
    if execution is None:
        return decode(encode(name, await _call(func, args, kwargs)))
    result: str | None = None
    if may_have_stored(execution):
        result = await acall_when_available(execution, _read_result, execution, name)
    if result is None:
        with _begun(execution, name) as call:
            text = encode(name, await _call(func, args, kwargs))
        if execution.run_inline:
            future = await sync_to_async(_store)(execution, call, text)
        else:
            future = _store(execution, call, text)
        result = await asyncio.wrap_future(future)
    return decode(result)


def _begin(name: str) -> CurrentExecution | None:
    """See ``durable_calls.begin()``. Raises ``ImproperlyConfigured`` inside a job if the app is not installed."""
    execution = begin(name)
    if execution is not None and LABEL not in execution.parts:
        require("notifications.contrib.steps")
    return execution


async def _call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if iscoroutinefunction(func):
        return await func(*args, **kwargs)
    value = await sync_to_async(func)(*args, **kwargs)
    return await value if isawaitable(value) else value


def _read_result(execution: CurrentExecution, name: str) -> str | None:
    """Return the stored result of a step, None if it has none."""
    from notifications.contrib.steps.models import Step

    if not is_stored(execution, name, "step"):
        return None
    rows = Step.objects.using(database()).filter(job=execution.job.id, name=name)
    result: str = rows.values_list("result", flat=True).get()
    return result


@contextmanager
def _begun(execution: CurrentExecution, name: str) -> Iterator[Any]:
    """Make a call of a step the one that runs in this context, and store it if it raises. Its caller has its result."""
    part = execution.parts[LABEL]
    call = part.begin(execution, name)
    try:
        with entered_step(execution.job.id, name):
            yield call
    except Exception:
        _store(execution, call, None)
        raise
    finally:
        part.drop(call)


def _store(execution: CurrentExecution, call: Any, result: str | None) -> Future[str]:
    """Begin to store what a call has returned, and return the future of what is stored under its name."""
    writes = steps_of(execution).writes
    future: Future[str] = execution.parts[LABEL].add(call, result)
    writes.add(future)
    future.add_done_callback(writes.discard)
    return future

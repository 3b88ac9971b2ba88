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

from notifications.contrib.steps.values import decode, encode
from notifications.db import database
from notifications.extension import require
from notifications.jobs import DurableCall

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
    result would stay after its rollback; TypeError or ValueError for a result that
    cannot be stored, after the call. In an attempt that is over, ``AttemptEnded`` of ``notifications.exceptions``.
    """
    if iscoroutinefunction(func):
        raise TypeError(f"{func!r} is async, which step() cannot call. Use await astep().")
    call = DurableCall("step", name, may_be_outside=True)
    if call.execution is None:
        return decode(encode(name, func(*args, **kwargs)))
    _require_app(call)
    result = call.read(_read_result, call, name)
    if result is None:
        with _begun(call, name) as begun:
            text = encode(name, func(*args, **kwargs))
        result = _store(call, begun, text).result()
    return decode(result)


@overload
async def astep(name: str, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def astep(name: str, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def astep(name: str, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """See step(). ``func`` is async, or sync and called in a thread. ``asyncio.gather()`` runs steps side by side."""
    call = DurableCall("astep", name, is_async=True, may_be_outside=True)
    if call.execution is None:
        return decode(encode(name, await _call(func, args, kwargs)))
    _require_app(call)
    result: str | None = None
    if call.may_have_stored:
        result = await call.aread(_read_result, call, name)
    if result is None:
        with _begun(call, name) as begun:
            text = encode(name, await _call(func, args, kwargs))
        if call.execution.run_inline:
            future = await sync_to_async(_store)(call, begun, text)
        else:
            future = _store(call, begun, text)
        result = await asyncio.wrap_future(future)
    return decode(result)


def _require_app(call: DurableCall) -> None:
    """Raise ``ImproperlyConfigured`` if the app is not installed."""
    if LABEL not in call.execution.parts:
        require("notifications.contrib.steps")


async def _call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if iscoroutinefunction(func):
        return await func(*args, **kwargs)
    value = await sync_to_async(func)(*args, **kwargs)
    return await value if isawaitable(value) else value


def _read_result(call: DurableCall, name: str) -> str | None:
    """Return the stored result of a step, None if it has none."""
    from notifications.contrib.steps.models import Step

    if not call.is_stored(name, "step"):
        return None
    rows = Step.objects.using(database()).filter(job=call.execution.job.id, name=name)
    result: str = rows.values_list("result", flat=True).get()
    return result


@contextmanager
def _begun(call: DurableCall, name: str) -> Iterator[Any]:
    """Make a call of a step the one that runs in this context, and store it if it raises. Its caller has its result.

    One that is cancelled because its execution ends has not failed: the next one makes it again.
    """
    part = call.execution.parts[LABEL]
    begun = part.begin(call.execution, name)
    try:
        with call.enter(name):
            yield begun
    except Exception:
        _store(call, begun, None)
        raise
    except asyncio.CancelledError:
        execution = call.execution
        if not (execution.is_over or execution.is_stopping or execution.is_cancelling or execution.waits):
            _store(call, begun, None)
        raise
    finally:
        part.drop(begun)


def _store(call: DurableCall, begun: Any, result: str | None) -> Future[str]:
    """Begin to store what a call has returned, and return the future of what is stored under its name."""
    writes = call.steps.writes
    future: Future[str] = call.execution.parts[LABEL].add(begun, result)
    writes.add(future)
    future.add_done_callback(writes.discard)
    return future

"""Waiting for jobs: join and its async twin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

from notifications.db.transactions import in_callers_transaction
from notifications.exceptions import JobCancelled, JobDoesNotExist
from notifications.jobs.awaited import JobEnd, Listen, read_end, waits
from notifications.jobs.worker.current import current_execution, is_on_database_thread
from notifications.jobs.worker.execution import Execution, release_slot


def join(job: Any, timeout: float | None, *, listen: Listen) -> Any:
    """See ``notifications.api.join``."""
    _refuse_on_event_loop()
    id, seconds, run = _id(job), _seconds(timeout), _waiter(job)
    end = read_end(id)
    if end is None:
        _refuse_in_transaction(run)
        if run and run.run_inline:
            run.run_inline(id)
            end = read_end(id)
    if end is None:
        _close_connections()
        with waits.wait_for(id, listen) as future, release_slot(run, future, id):
            try:
                end = future.result(seconds)
            except TimeoutError:
                raise _late(id, seconds) from None
            except CancelledError:
                raise JobCancelled("The job that waited here is over, or was cancelled.") from None
    return end.value()


async def ajoin(
    job: Any,
    timeout: float | None,  # noqa: ASYNC109 (as join has it)
    *,
    listen: Listen,
    release_connections: Callable[[], Awaitable[None]],
) -> Any:
    """See ``notifications.api.join``. ``release_connections`` closes those of the request before the wait."""
    id, seconds, run = _id(job), _seconds(timeout), _waiter(job)

    def look() -> JobEnd | None:
        end = read_end(id)
        if end is None:
            _refuse_in_transaction(run)
        return end

    end = await sync_to_async(look)()
    if end is None and run and run.run_inline:
        await sync_to_async(run.run_inline)(id)
        end = await sync_to_async(read_end)(id)
    if end is None:
        if run is None:
            await release_connections()
        with waits.wait_for(id, listen) as future, release_slot(run, future, id):
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    end = await asyncio.wrap_future(future)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise _late(id, seconds) from None
    return end.value()


def _id(job: Any) -> UUID:
    value = getattr(job, "id", job)
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{job!r} cannot be joined. Pass what enqueue() returned, a job's id, or a batch.")
    try:
        return UUID(value)
    except ValueError:
        raise JobDoesNotExist(value) from None


def _seconds(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}.")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout is {timeout!r}. It must be a number of seconds from 0, or None.")
    return timeout


def _waiter(job: Any) -> Execution | None:
    """Return the job that waits, if it is one."""
    run = current_execution()
    if run is not None and run.job.id == _id(job):
        raise ValueError("A job cannot wait for its own end.")
    return run


def _refuse_on_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SynchronousOnlyOperation("join() would block the event loop. Use await ajoin().")
    if is_on_database_thread():
        raise SynchronousOnlyOperation(
            "join() would block the database thread that this async task shares with others. Use await ajoin()."
        )


def _refuse_in_transaction(run: Execution | None) -> None:
    if in_callers_transaction() and not (run and run.run_inline):
        raise RuntimeError(
            "The job is not done, and inside a transaction it never will be: no worker sees it before the commit. "
            "Wait for it after the atomic block; in a TestCase call notifications.testing.run_jobs() first."
        )


def _late(id: UUID, seconds: float | None) -> TimeoutError:
    return TimeoutError(f"Job {id} was not done within {seconds:g} s. It goes on.")


def _close_connections() -> None:
    """Hold none while waiting."""
    for db in connections.all(initialized_only=True):
        if not db.in_atomic_block and db.autocommit:
            db.close()

"""Run the loops of a worker, whatever fails in one of their steps, until it is stopped or ends by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from notifications.db.unavailable import QUERY_ERRORS, is_unavailable, log_retried

logger = logging.getLogger("notifications.jobs")
T = TypeVar("T")

#: Seconds until the next try while the database is unavailable, and after a step failed.
RETRY_INTERVAL_SECONDS = 0.5
#: What the log says of all loops while it is unavailable.
WAITS = "The worker waits for the database"


async def run_to_end(
    loop: Callable[[], Awaitable[None]], is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Await a loop. An error, as while the database is away, is logged, and it is started again after a pause.

    Not while the worker stops, nor when the loop has ended by itself.
    """
    while True:
        try:
            return await loop()
        except (Exception, SystemExit) as exc:
            failed = "A loop of the worker failed and is started again"
            log_retried(logger, WAITS if is_unavailable(exc) else failed, exc)
        if is_stopping():
            return None
        await asyncio.sleep(RETRY_INTERVAL_SECONDS)


async def retry_while_unavailable(call: Callable[[], Awaitable[T]], is_stopping: Callable[[], bool]) -> T:
    """Return what ``call()`` returns, after as many tries as it takes until the database is there and migrated.

    While the worker stops, the error is raised.
    """
    while True:
        try:
            return await call()
        except QUERY_ERRORS as exc:
            if is_stopping():
                raise
            log_retried(logger, WAITS, exc)
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, at most this long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class RunLimit:
    """Counts the jobs that a worker has started, and decides when it is done.

    ``max_jobs``
        Jobs that it starts at most, except those for which its running jobs wait. None: no limit.
    ``until_idle``
        It is done when it runs no job and finds none that is due. Jobs for later are not waited for.
    """

    def __init__(self, *, max_jobs: int | None = None, until_idle: bool = False) -> None:
        self._max_jobs = max_jobs
        self._until_idle = until_idle
        self._started = 0

    @property
    def ends_by_itself(self) -> bool:
        """Whether the worker ends without being stopped."""
        return self._until_idle or self._max_jobs is not None

    def reduce(self, limit: int) -> int:
        """Return how many of ``limit`` jobs may still be started."""
        return limit if self._max_jobs is None else max(0, min(limit, self._max_jobs - self._started))

    def add_started(self, count: int) -> None:
        self._started += count

    def is_reached_when_idle(self) -> bool:
        """Return whether a worker is done that runs no job and has found none."""
        return self._until_idle or (self._max_jobs is not None and self._started >= self._max_jobs)

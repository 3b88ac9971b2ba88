"""Run the loops of a worker, whatever fails in one of their steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from notifications.db.unavailable import QUERY_ERRORS, log_if_not_migrated

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Seconds until the next try while the database is unavailable, and after a step failed.
RETRY_INTERVAL_SECONDS = 0.5


async def run_forever(step: Callable[[], Awaitable[None]]) -> None:
    """Await ``step()`` again and again. An error is logged, and the next step begins after a pause."""
    while True:
        try:
            await step()
        except Exception as exc:
            if not log_if_not_migrated(exc):
                logger.exception("A loop of the worker failed and is started again")
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)


async def retry_while_unavailable(call: Callable[[], Awaitable[T]], is_stopping: Callable[[], bool]) -> T:
    """Return what ``call()`` returns, after as many tries as it takes until the database is there and migrated.

    While the worker stops, the error is raised.
    """
    last_error = ""
    while True:
        try:
            return await call()
        except QUERY_ERRORS as exc:
            if is_stopping():
                raise
            if str(exc) != last_error:
                logger.warning("The worker waits for the database: %s", exc)
            last_error = str(exc)
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, at most this long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass

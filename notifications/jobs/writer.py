"""The one thread of a worker that claims and records, and that leaves SQLite's lock to others in between.

SQLite's lock is unfair: a writer that commits back to back leaves others a few writes a second. So after each transaction
the lock is left free for as long as it was held, at least 5 ms; half a millisecond where nobody else writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from notifications.jobs.threads import DaemonExecutor
from notifications.transactions import connection

T = TypeVar("T")

#: Seconds: the pause beside other writers, the pause alone, and how long nobody else must have written to be alone.
PAUSE, PAUSE_ALONE, ALONE_AFTER = 0.005, 0.0005, 0.25


class Writer:
    """Runs calls one after the other on a thread with a database connection of its own."""

    def __init__(self) -> None:
        self._thread = DaemonExecutor(1, "notifications-writer")
        self._version: int | None = None
        self._others_wrote = 0.0

    async def __call__(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what ``work`` returns; the caller goes on before the pause that follows."""
        future = self._thread.submit(self._timed, work, *args, **kwargs)
        self._thread.submit(self._pause)
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """End the thread when its calls are done."""
        self._thread.shutdown()

    def _timed(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        start = time.monotonic()
        try:
            return work(*args, **kwargs)
        finally:
            self._held = time.monotonic() - start

    def _pause(self) -> None:
        db = connection()
        if db.vendor != "sqlite":
            return
        with db.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            (version,) = cursor.fetchone()
        now = time.monotonic()
        if version != self._version:
            self._version, self._others_wrote = version, now
        alone = now - self._others_wrote > ALONE_AFTER
        time.sleep(PAUSE_ALONE if alone else max(PAUSE, self._held))

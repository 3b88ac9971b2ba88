"""The thread of a worker that claims and records, and leaves SQLite's lock to other writers in between.

SQLite's lock is unfair: a writer that commits back to back leaves others a few writes a second. So after each
transaction a busy writer leaves the lock free for as long as it held it, and at least 6.5 ms; 0.5 ms if no other
process writes. The first few milliseconds of writes after a quiet time need no pause, so a single job is done at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import reset_queries

from notifications.db.signal_queue import SignalQueue
from notifications.db.thread_connections import discard_unusable
from notifications.db.threads import DaemonExecutor
from notifications.db.transactions import MAX_PAUSE_SECONDS, connection, deferred, dialect, lock_time
from notifications.db.unavailable import classify

T = TypeVar("T")

logger = logging.getLogger("notifications.jobs")

#: Seconds that the lock is left free at least, while other processes write and while none does. SQLite tries a busy
#: lock again after 1, 3, 8 and 18 ms: in a pause of 5 ms the try at 8 ms may meet the next transaction, and the writer
#: waits for 10 ms more. With 6.5 ms the p99 of four writers was 34 ms in place of 47, at 93 % of the jobs.
MIN_PAUSE_SECONDS, MIN_PAUSE_WITHOUT_WRITERS_SECONDS = 0.0065, 0.0005
#: Seconds without a write of another process after which there are no other writers.
NO_WRITERS_AFTER_SECONDS = 0.25
#: Seconds without a write of this process after which it was quiet, and seconds that it may then hold the lock without
#: a pause.
QUIET_SECONDS, BURST_SECONDS = 0.02, 0.005


class Writer:
    """Runs calls in order on a thread with a database connection of its own.

    ``signals``
        The queue for the signals that calls send; without it they are sent inside the call.
    """

    def __init__(self, signals: SignalQueue | None = None) -> None:
        self._signals = signals
        self._executor = DaemonExecutor(1, "notifications-writer", is_limited=True)
        self._data_version: int | None = None
        self._other_process_wrote_at = 0.0
        self._locked_seconds = 0.0
        self._locked_since_quiet = 0.0

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Return what a call returns. It does not wait for the pause that follows the call."""
        future = self._executor.submit(self._call, function, *args)
        self._executor.submit(self._pause)
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """End the thread when its calls are done."""
        self._executor.shutdown()

    def _call(self, function: Callable[..., T], *args: Any) -> T:
        if time.monotonic() - lock_time.until > QUIET_SECONDS:
            self._locked_since_quiet = 0.0
        deferred.calls = []
        if self._signals:
            self._signals.use_on_this_thread()
        locked_before = lock_time.seconds
        try:
            return function(*args)
        except Exception as exc:
            discard_unusable(exc, [connection()])
            raise classify(exc) from exc.__cause__
        finally:
            # Kept whatever CONN_MAX_AGE says. A new connection for each call would cost more than the call, and only
            # one that stays open sees through data_version that another process wrote.
            connection().close_at = None
            self._locked_seconds = lock_time.seconds - locked_before
            self._locked_since_quiet += self._locked_seconds

    def _pause(self) -> None:
        reset_queries()  # with DEBUG Django keeps the last 9,000 queries, with all results of each group
        calls, deferred.calls = deferred.calls, None
        for call in calls or ():
            try:
                call()
            except Exception as exc:  # the pause that follows is for all
                logger.warning("A deferred call of the writer failed: %s", exc)
        if self._locked_since_quiet < BURST_SECONDS:
            return
        if (version := dialect().read_version(connection())) is None:
            return
        now = time.monotonic()
        if version != self._data_version:
            self._data_version, self._other_process_wrote_at = version, now
        if now - self._other_process_wrote_at > NO_WRITERS_AFTER_SECONDS:
            pause = MIN_PAUSE_WITHOUT_WRITERS_SECONDS
        else:
            pause = min(max(MIN_PAUSE_SECONDS, self._locked_seconds), MAX_PAUSE_SECONDS)
        # The deferred calls have left the lock free already.
        time.sleep(max(0.0, lock_time.until + pause - now))

"""The thread of a worker that claims and records, and that leaves SQLite's lock to others in between.

SQLite's lock is unfair: a writer that commits back to back leaves others a few writes a second. So a busy
writer leaves the lock free after each transaction for as long as it held it, at least 5 ms; half a
millisecond where nobody else writes. A few short writes after a quiet time cost nobody anything and need no
pause: a lone job is done at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import reset_queries

from notifications.db.deadlines import limit_this_thread
from notifications.db.threads import DaemonExecutor
from notifications.db.transactions import MAX_PAUSE_SECONDS, connection, deferred, lock_time
from notifications.jobs.transitions import signal_queue
from notifications.jobs.transitions.signal_queue import SignalQueue

T = TypeVar("T")

#: Seconds: the pause beside other writers, the pause alone, and how long nobody else must have written to be alone.
MIN_PAUSE_SECONDS, MIN_PAUSE_WITHOUT_WRITERS_SECONDS, NO_WRITERS_AFTER_SECONDS = 0.005, 0.0005, 0.25
#: Seconds without a write after which it was quiet, and for which the lock may be held from then on without a pause.
QUIET_SECONDS, BURST_SECONDS = 0.02, 0.005


class Writer:
    """Runs calls one after the other on a thread with a database connection of its own.

    Signals that they send after a commit go through ``signals``, where it is given.
    """

    def __init__(self, signals: SignalQueue | None = None) -> None:
        self._signals = signals
        self._thread = DaemonExecutor(1, "notifications-writer")
        self._version: int | None = None
        self._others_wrote = 0.0
        self._held = 0.0
        self._held_since_quiet = 0.0

    async def __call__(self, work: Callable[..., T], *args: Any) -> T:
        """Return what ``work`` returns; the caller goes on before the pause that follows."""
        future = self._thread.submit(self._timed, work, *args)
        self._thread.submit(self._pause)
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """End the thread when its calls are done."""
        self._thread.shutdown()

    def _timed(self, work: Callable[..., T], *args: Any) -> T:
        if time.monotonic() - lock_time.until > QUIET_SECONDS:
            self._held_since_quiet = 0.0
        limit_this_thread()
        deferred.calls = []
        signal_queue.use_on_this_thread(self._signals)
        before = lock_time.seconds
        try:
            return work(*args)
        except Exception:
            raise
        except BaseException as exc:  # of the host's; it would end the event loop that waits for this
            raise RuntimeError(f"Something that was called here raised {exc!r}.") from exc
        finally:
            # Kept whatever CONN_MAX_AGE says: one for each write would cost more than the write, and only one
            # that stays hears through data_version that somebody else wrote.
            connection().close_at = None
            self._held = lock_time.seconds - before
            self._held_since_quiet += self._held

    def _pause(self) -> None:
        reset_queries()  # with DEBUG Django keeps the last 9,000, of groups each with all results in it
        calls, deferred.calls = deferred.calls, None
        for call in calls or ():
            call()
        db = connection()
        if db.vendor != "sqlite" or self._held_since_quiet < BURST_SECONDS:
            return
        with db.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            (version,) = cursor.fetchone()
        now = time.monotonic()
        if version != self._version:
            self._version, self._others_wrote = version, now
        alone = now - self._others_wrote > NO_WRITERS_AFTER_SECONDS
        pause = (
            MIN_PAUSE_WITHOUT_WRITERS_SECONDS
            if alone
            else min(max(MIN_PAUSE_SECONDS, self._held), MAX_PAUSE_SECONDS)
        )
        # The lock is free already while signals are sent.
        time.sleep(max(0.0, lock_time.until + pause - now))

"""Send the ids of committed jobs to their engines, and send those again that were lost.

Each process that enqueues jobs for an engine sends their ids itself, right after the commit, on one thread for each
engine: a request never waits for a broker. Processes that last (servers and workers of engines) also run a
``DispatchLoop``. It dispatches jobs that had to wait (for later, for a paused queue, for a limit, for a retry), and
jobs whose id got lost because the sender ended, the broker was away, or a message was dropped.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections

from notifications.conf import settings
from notifications.contrib.engines import (
    dispatching,
    has_engines,
    own_senders,
    quarantine,
    resending,
    senders,
)
from notifications.db import signal_queue
from notifications.db.signal_queue import SignalQueue
from notifications.db.supervised import SupervisedThread
from notifications.db.unavailable import QUERY_ERRORS, log_if_not_migrated
from notifications.extension import BackendQueue, Where
from notifications.realtime import doorbell
from notifications.upkeep import Upkeep

logger = logging.getLogger("notifications.jobs")

#: Seconds between two rounds of a ``DispatchLoop`` if no ring comes, and at least.
ROUND_INTERVAL_SECONDS, MIN_ROUND_INTERVAL_SECONDS = 1.0, 0.05
#: Seconds that a duty of the upkeep may take in one round: ids of due jobs wait meanwhile.
MAX_DUTY_SECONDS = 0.05
#: Seconds that the end of a loop waits for code of the project.
END_TIMEOUT_SECONDS = 2.0


#: When this process has last searched for lost jobs (monotonic), and where it goes on.
_last_search, _cursor = 0.0, resending.Cursor()


def run_round(drained: Mapping[BackendQueue, float] | None = None, has_room: bool = False) -> bool:
    """Dispatch what is due and what was lost. Returns whether there may be more.

    ``drained`` is what ``DrainedQueues.take()`` returns in a process of an engine. ``has_room`` says that a quarantined
    job has ended in this process.
    """
    global _last_search
    unreachable = senders.unreachable_backends()
    due, lost = dispatching.dispatch_due_jobs(), []
    due += own_senders.dispatch_sender_jobs(unreachable)
    # However often the queue rings, and on whichever thread this is called.
    is_search = time.monotonic() - _last_search >= ROUND_INTERVAL_SECONDS
    if is_search:
        _last_search = time.monotonic()
        lost = resending.dispatch_again(unreachable, drained, _cursor)
    if is_search or has_room:
        due += quarantine.dispatch_quarantined_jobs(unreachable, has_room=has_room)
    if lost:
        logger.info("Dispatched jobs again that no process of their engine had claimed: %d", len(lost))
    senders.send([*due, *lost])
    return len(due) >= dispatching.MAX_JOBS_PER_TRANSACTION


class DispatchLoop:
    """Runs rounds on a thread of a server process, and the upkeep, because no other process may last."""

    def __init__(self) -> None:
        self._thread = SupervisedThread(
            "notifications-dispatch", self._run_round, session=self._session, is_limited=False
        )
        #: Since when (monotonic) each maintenance has come in time and reached the database.
        self._unbroken_since = time.monotonic()
        self._last_maintenance = 0.0
        self._upkeep: Upkeep

    def start(self) -> None:
        """Run rounds on a thread of its own until ``stop()``. Raises ``NoThread``."""
        self._thread.wake()

    def stop(self, timeout: float = 0.0) -> None:
        """End the loop, from any thread, and wait for that at most ``timeout`` seconds."""
        self._thread.stop(timeout)

    @contextmanager
    def _session(self) -> Iterator[None]:
        unsubscribe = doorbell.listen(self._on_ring)
        self._upkeep = Upkeep(
            Where.ENGINE_SERVER,
            seconds=MAX_DUTY_SECONDS,
            may_reap=lambda: time.monotonic() - self._unbroken_since >= settings.LEASE,
        )
        signals = SignalQueue()
        signal_queue.use_on_this_thread(signals)
        try:
            yield
        finally:
            unsubscribe()
            self._upkeep.project_threads.end(END_TIMEOUT_SECONDS)
            signals.end()

    def _run_round(self) -> float:
        """Run a round, and return the seconds until the next one if no ring comes. They vary, so they differ."""
        self._try(self._maintain)  # a duty that fails keeps no id waiting
        has_more = self._try(run_round)
        self._thread.pause(MIN_ROUND_INTERVAL_SECONDS)
        return 0.0 if has_more else next_round_seconds()

    def _try(self, function: Callable[[], bool | None]) -> bool:
        """Return what a call returns; False after an error, which is logged."""
        try:
            return bool(function())
        except QUERY_ERRORS as exc:
            self._unbroken_since = time.monotonic()
            if not log_if_not_migrated(exc):
                logger.warning("Could not dispatch jobs, which is tried again: %s", exc)
            connections.close_all()
        except Exception:
            logger.exception("Could not dispatch jobs, which is tried again")
        return False

    def _maintain(self) -> None:
        """Once a second, complete what lost processes have left."""
        now = time.monotonic()
        elapsed = now - self._last_maintenance
        if elapsed < ROUND_INTERVAL_SECONDS:
            return
        # After an outage of the database, or a sleep of this machine, others need a lease's time to renew theirs.
        if elapsed > settings.LEASE / 2:
            self._unbroken_since = now
        self._last_maintenance = now
        self._upkeep.run_round()

    def _on_ring(self, users: Any, queue: bool) -> None:
        if queue:
            self._thread.wake()


def next_round_seconds() -> float:
    """Return the seconds until the next round if no ring comes. They vary, so that processes do not meet."""
    return ROUND_INTERVAL_SECONDS * random.uniform(0.75, 1.25)


def round_of_worker() -> Callable[[], object] | None:
    """See ``Dispatch.round_of_worker()``."""
    return run_round if has_engines() else None


#: That of this process.
_loop = DispatchLoop()


def start() -> None:
    """Start the ``DispatchLoop`` of this process, once, if a backend has an engine. Raises ``NoThread``."""
    if has_engines():  # not whether they can be set up: one that cannot must not stop the others
        _loop.start()

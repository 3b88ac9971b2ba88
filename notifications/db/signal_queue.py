"""Send signals after a commit on a thread of their own, so that a slow receiver delays only other receivers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

from notifications.db import project_code
from notifications.db.threads import DaemonExecutor

logger = logging.getLogger("notifications.jobs")

#: Bytes of memory that queued signals may hold: the results of their jobs, and ``BYTES_PER_JOB`` for the row of each
#: job and its notification.
MAX_QUEUED_BYTES, BYTES_PER_JOB = 64 * 1024 * 1024, 4 * 1024
#: Seconds after which a receiver that delays others is named in the log.
SLOW_SECONDS = 10.0


class SignalQueue:
    """Runs calls in order on one thread, with a bound on the memory that waiting calls hold."""

    def __init__(self) -> None:
        self._executor = DaemonExecutor(1, "notifications-signals", keep_connections=True)
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._queued_jobs = 0
        self._dropped_jobs = 0
        self._thread_ident = 0
        self._last_slow_call: tuple[str, float] | None = None

    def use_on_this_thread(self) -> None:
        """Make ``send_later`` on this thread put its calls into this: nothing here waits for code of the project."""
        _thread_local.queue = self

    def put(self, function: Callable[[], object], jobs: int, size: int) -> bool:
        """Queue a call that sends the signals of ``jobs`` jobs, whose results have ``size`` characters in all.

        Returns False for a call that is dropped, as one is if the queue would hold over ``MAX_QUEUED_BYTES``. What must
        not be lost is the task of a handler.
        """
        size += jobs * BYTES_PER_JOB
        self._log_slow_receiver()
        with self._lock:
            if self._queued_bytes and self._queued_bytes + size > MAX_QUEUED_BYTES:
                if not self._dropped_jobs:
                    logger.error(
                        "Dropping signals, receivers are too slow; jobs whose signals wait: %d",
                        self._queued_jobs,
                    )
                self._dropped_jobs += jobs
                return False
            if self._dropped_jobs:
                logger.error("Dropped the signals of %d jobs", self._dropped_jobs)
                self._dropped_jobs = 0
            self._queued_bytes += size
            self._queued_jobs += jobs
        try:
            self._executor.submit(self._run, function, jobs, size)
        # Without a thread. The outcomes are stored: the caller must not take them for failed.
        except RuntimeError:
            logger.exception("Dropped the signals of %d jobs", jobs)
            self._forget(jobs, size)
            return False
        return True

    async def drain(self, seconds: float) -> None:
        """Wait until all queued signals are sent, at most this long."""
        if not self._queued_jobs:
            return
        drained = asyncio.wrap_future(self._executor.submit(lambda: None))
        await asyncio.wait([drained], timeout=max(seconds, 0.0))
        if self._queued_jobs:
            self._log_slow_receiver(min_seconds=0.0)
            logger.warning(
                "Signals may be lost, the process ends before they are sent; jobs: %d", self._queued_jobs
            )

    def wait(self, seconds: float) -> None:
        """Wait until all queued signals are sent, at most this long, on a thread without an event loop."""
        if self._queued_jobs:
            futures.wait([self._executor.submit(lambda: None)], timeout=max(seconds, 0.0))

    def end(self) -> None:
        """End the thread when its calls are done. The thread that calls this uses it no more."""
        if _thread_local.queue is self:
            _thread_local.queue = None
        self._executor.shutdown()

    def _run(self, function: Callable[[], object], jobs: int, size: int) -> None:
        self._thread_ident = threading.get_ident()
        try:
            function()
        except Exception:  # errors of receivers are logged where these are called
            logger.exception("Could not send the signals of %d jobs", jobs)
        finally:
            self._forget(jobs, size)

    def _forget(self, jobs: int, size: int) -> None:
        with self._lock:
            self._queued_bytes -= size
            self._queued_jobs -= jobs

    def _log_slow_receiver(self, min_seconds: float = SLOW_SECONDS) -> None:
        call = project_code.running_calls.get(self._thread_ident)
        if (
            call
            and call is not self._last_slow_call
            and (seconds := time.monotonic() - call[1]) > min_seconds
        ):
            self._last_slow_call = call
            logger.warning(
                "Receiver is slow: %s has run for %.0f s; jobs whose signals wait: %d",
                call[0],
                seconds,
                self._queued_jobs,
            )


class _ThreadLocal(threading.local):
    queue: SignalQueue | None = None


_thread_local = _ThreadLocal()


def queue_of_this_thread() -> SignalQueue | None:
    """Return the queue of this thread, which may not wait for code of the project; None if it may."""
    return _thread_local.queue


def send_later(function: Callable[[], object], *, jobs: int = 1) -> None:
    """Call a function that sends signals: from the queue of this thread if it has one, now if not."""
    if _thread_local.queue is None:
        function()
    else:
        _thread_local.queue.put(function, jobs, size=0)

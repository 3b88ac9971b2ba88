"""Signals that are sent after a commit, on a thread of their own: a slow receiver delays only other receivers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from notifications.db.threads import DaemonExecutor
from notifications.jobs import host_code

logger = logging.getLogger("notifications.jobs")

#: What may wait, in bytes: the results of the jobs, and for each job what its row and its notification take.
MAX_WAITING_BYTES, BYTES_PER_JOB = 64 * 1024 * 1024, 4 * 1024
#: Seconds after which a receiver that others wait for is named in the log.
SLOW_SECONDS = 10.0


class SignalQueue:
    """Runs calls one after the other on one thread, in the order in which they were put."""

    def __init__(self) -> None:
        self._thread = DaemonExecutor(1, "notifications-signals", keep_connections=True)
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._waiting_jobs = 0
        self._dropped_jobs = 0
        self._ident = 0
        self._named: tuple[str, float] | None = None

    def put(self, work: Callable[[], object], jobs: int, size: int) -> None:
        """Have ``work`` called, which sends the signals of so many jobs whose results have ``size`` characters.

        When too many wait it is dropped: memory is bounded, and what must not be lost belongs into a receiver of
        ``notification_recording``.
        """
        size += jobs * BYTES_PER_JOB
        self._name_slow_receiver()
        with self._lock:
            if self._waiting_bytes and self._waiting_bytes + size > MAX_WAITING_BYTES:
                if not self._dropped_jobs:
                    logger.error(
                        "Signals are dropped: receivers do not keep up; %d jobs wait.", self._waiting_jobs
                    )
                self._dropped_jobs += jobs
                return
            if self._dropped_jobs:
                logger.error("Signals were dropped: those of %d jobs.", self._dropped_jobs)
                self._dropped_jobs = 0
            self._waiting_bytes += size
            self._waiting_jobs += jobs
        try:
            self._thread.submit(self._run, work, jobs, size)
        except Exception:  # what they are about is stored, and must not look as if it were not
            logger.exception("Signals were dropped: those of %d jobs.", jobs)
            self._done(jobs, size)

    async def drain(self, seconds: float) -> None:
        """Wait until all signals are sent, at most so long."""
        if not self._waiting_jobs:
            return
        done = asyncio.wrap_future(self._thread.submit(lambda: None))
        await asyncio.wait([done], timeout=max(seconds, 0.0))
        if self._waiting_jobs:
            self._name_slow_receiver(after=0.0)
            logger.warning(
                "Signals may be lost at the end of this process: those of %d jobs.", self._waiting_jobs
            )

    def end(self) -> None:
        """End the thread when its calls are done."""
        self._thread.shutdown()

    def _run(self, work: Callable[[], object], jobs: int, size: int) -> None:
        self._ident = threading.get_ident()
        try:
            work()
        except Exception:  # not the receivers', whose errors are logged where they are called
            logger.exception("Signals could not be sent: those of %d jobs.", jobs)
        finally:
            self._done(jobs, size)

    def _done(self, jobs: int, size: int) -> None:
        with self._lock:
            self._waiting_bytes -= size
            self._waiting_jobs -= jobs

    def _name_slow_receiver(self, after: float = SLOW_SECONDS) -> None:
        call = host_code.running.get(self._ident)
        if call and call is not self._named and (seconds := time.monotonic() - call[1]) > after:
            self._named = call
            logger.warning(
                "Receiver is slow: %s has run for %.0f s, and the signals of %d jobs wait for it.",
                call[0],
                seconds,
                self._waiting_jobs,
            )


class _Thread(threading.local):
    queue: SignalQueue | None = None


_thread = _Thread()


def use(queue: SignalQueue | None) -> None:
    """Have this thread put what it gives to ``later`` into a queue."""
    _thread.queue = queue


def later(work: Callable[[], object], *, jobs: int = 1, size: int = 0) -> None:
    """Call ``work``, which calls code of the host's: on a worker from its queue, elsewhere now."""
    if _thread.queue is None:
        work()
    else:
        _thread.queue.put(work, jobs, size)

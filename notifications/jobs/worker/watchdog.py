"""Notices that a task blocks the event loop, and with it all jobs of the worker, and says which one and where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback

from notifications.db.threads import NoThread, start_thread
from notifications.jobs.worker.subtasks import name_of

logger = logging.getLogger("notifications.jobs")

#: Seconds without a sign of the loop after which it is blocked, and between two signs.
BLOCKED_SECONDS, BEAT_SECONDS = 1.0, 0.2


class Watchdog:
    """Watches the running loop from a thread of its own, from now until ``stop()``; both are called in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._beaten = time.monotonic()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._next.cancel()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._next = self._loop.call_later(BEAT_SECONDS, self._beat)
        if self._thread is None:
            with contextlib.suppress(NoThread):  # the next beat tries again
                self._thread = start_thread(self._watch, "notifications-watchdog")

    def _watch(self) -> None:
        blocked_since = 0.0
        looked = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            before, looked = looked, time.monotonic()
            beaten = self._beaten
            if blocked_since and beaten > blocked_since:
                logger.warning("The event loop moves again after %.1f s.", beaten - blocked_since)
                blocked_since = 0.0
            # If this thread slept as well, the whole process did.
            if not blocked_since and looked - beaten > BLOCKED_SECONDS and looked - before < BLOCKED_SECONDS:
                blocked_since = beaten
                self._tell(looked - beaten)

    def _tell(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._loop_thread)
        where = "".join(traceback.format_stack(frame, limit=10)) if frame else ""
        logger.warning(
            "%s has blocked the event loop for %.1f s, and with it all jobs of this worker. "
            "What takes long belongs into a sync task, or into asyncio.to_thread(). It is here:\n%s",
            name_of(task) if task else "Something that is no task",
            seconds,
            where,
        )

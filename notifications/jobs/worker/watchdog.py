"""Log which task blocks the event loop, and with it all jobs of the worker."""

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

#: Seconds without a heartbeat after which the event loop counts as blocked.
BLOCKED_SECONDS = 1.0
HEARTBEAT_INTERVAL_SECONDS = 0.2


class Watchdog:
    """Watches the running event loop from a thread until ``stop()``. Create and stop it on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._last_heartbeat = time.monotonic()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._next_heartbeat.cancel()

    def _beat(self) -> None:
        self._last_heartbeat = time.monotonic()
        self._next_heartbeat = self._loop.call_later(HEARTBEAT_INTERVAL_SECONDS, self._beat)
        if self._thread is None:
            with contextlib.suppress(NoThread):  # the next heartbeat tries again
                self._thread = start_thread(self._watch, "notifications-watchdog")

    def _watch(self) -> None:
        blocked_since = 0.0
        checked_at = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_INTERVAL_SECONDS):
            last_check, checked_at = checked_at, time.monotonic()
            last_heartbeat = self._last_heartbeat
            if blocked_since and last_heartbeat > blocked_since:
                logger.warning("The event loop runs again after %.1f s", last_heartbeat - blocked_since)
                blocked_since = 0.0
            # If this thread slept as well, the whole process was suspended, as on a laptop that was closed.
            is_awake = checked_at - last_check < BLOCKED_SECONDS
            if not blocked_since and checked_at - last_heartbeat > BLOCKED_SECONDS and is_awake:
                blocked_since = last_heartbeat
                self._log_blocked(checked_at - last_heartbeat)

    def _log_blocked(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._loop_thread)
        logger.warning(
            "The event loop, and with it all jobs of this worker, has been blocked for %.1f s by %s. Move work that "
            "takes long into a sync task, or into asyncio.to_thread(). Its stack:\n%s",
            seconds,
            name_of(task) if task else "a callback outside a task",
            "".join(traceback.format_stack(frame, limit=10)) if frame else "",
        )

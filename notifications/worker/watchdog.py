"""Watch an event loop from a thread: log which task blocks it, and end a process whose loop does not come back."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from notifications.db.threads import NoThread, start_thread
from notifications.worker.subtasks import name_of

logger = logging.getLogger("notifications.jobs")

#: Seconds without a heartbeat after which the event loop counts as blocked.
BLOCKED_SECONDS = 1.0
HEARTBEAT_INTERVAL_SECONDS = 0.4
#: Seconds without a heartbeat after which the process is ended.
MAX_BLOCKED_SECONDS = 30.0
#: The packages of debuggers: a loop that stands in one of their frames is not stuck.
DEBUGGERS = {"bdb", "pdb", "debugpy", "pydevd"}
#: After which Django's autoreload starts its process again. After any other it ends too.
AUTORELOAD_EXIT_CODE = 3
#: Seconds that the last log lines of a process may take.
LOG_SECONDS = 10
#: Frames of each thread that they show.
MAX_FRAMES = 20
#: Set in a process without a supervisor, which starts itself again instead of ending.
_restarts = threading.Event()


class Watchdog:
    """Watches the running event loop from a thread until ``stop()``. Create and stop it on that loop.

    ``may_end_process``
        Called, on the thread, with the task that has blocked the loop for ``MAX_BLOCKED_SECONDS``, None outside of
        tasks. Returns whether to end the process. It never is by default, nor while the loop stands in a debugger.
    ``exit_seconds``
        Seconds after which the process exits if no thread has run in them, as when a task keeps Python's lock for ever.
        Other processes run its jobs then. Never by default.
    """

    interval = HEARTBEAT_INTERVAL_SECONDS

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        may_end_process: Callable[[asyncio.Task[object] | None], bool] = lambda task: False,
        exit_seconds: float | None = None,
    ) -> None:
        self._loop = loop
        self._exit_seconds = exit_seconds
        self._may_end_process = may_end_process
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
        self._next_heartbeat = self._loop.call_later(self.interval, self._beat)
        if self._thread is None:
            with contextlib.suppress(NoThread):  # the next heartbeat tries again
                self._thread = start_thread(self._watch, "notifications-watchdog")

    def _watch(self) -> None:
        blocked_since = 0.0
        missed_heartbeats = 0
        checked_at = time.monotonic()
        while not self._wait():
            last_check, checked_at = checked_at, time.monotonic()
            last_heartbeat = self._last_heartbeat
            # If this thread slept as well, the whole process was suspended, as on a laptop that was closed.
            is_awake = checked_at - last_check < BLOCKED_SECONDS
            if blocked_since and last_heartbeat > blocked_since:
                logger.warning("The event loop runs again after %.1f s", last_heartbeat - blocked_since)
                blocked_since = 0.0
            if not blocked_since and checked_at - last_heartbeat > BLOCKED_SECONDS and is_awake:
                blocked_since = last_heartbeat
                self._log_blocked(checked_at - last_heartbeat)
            # Counted, not measured, for the same reason.
            missed_heartbeats = missed_heartbeats + 1 if blocked_since else 0
            if missed_heartbeats * self.interval >= MAX_BLOCKED_SECONDS:
                missed_heartbeats = 0
                may_end = not self._loop.is_closed() and not self._is_in_debugger()
                if may_end and self._may_end_process(asyncio.current_task(self._loop)):
                    end_process(checked_at - last_heartbeat)
        if self._exit_seconds:
            faulthandler.cancel_dump_traceback_later()

    def _wait(self) -> bool:
        """Wait until the next check, and return whether ``stop()`` was called. A stuck process exits from now on."""
        if self._exit_seconds:
            # Its thread needs no lock of Python. Celery replaces sys.stderr by what has no descriptor.
            faulthandler.dump_traceback_later(self._exit_seconds, exit=True, file=2)
        return self._stopped.wait(self.interval)

    def _is_in_debugger(self) -> bool:
        frame = sys._current_frames().get(self._loop_thread)
        names = (each.f_globals.get("__name__", "") for each, _ in traceback.walk_stack(frame))
        return any(name.partition(".")[0] in DEBUGGERS for name in names)

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


class ServerWatchdog(Watchdog):
    """Ends a server whose event loop does not come back, for its supervisor to start another one.

    A server without descriptors or threads once never came back: the start of a thread waited for a thread that had
    failed.
    """

    interval = 0.5

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, lambda task: True)

    def _log_blocked(self, seconds: float) -> None:
        """Shorter blocks are those of the project's views."""


def restart_when_stuck() -> None:
    """Have this process start itself again, by the command that started it, where it would end."""
    _restarts.set()


def end_process(seconds: float) -> None:
    """Log the stacks of all threads, and end this process, or start it again if nothing else would."""
    # Its default action ends the process, also where the log, or its lock, is what the event loop waits for.
    signal.alarm(LOG_SECONDS)
    logger.critical(
        "The event loop has not run for %.0f s: the process ends, and its supervisor starts it again. Stacks:\n%s",
        seconds,
        describe_threads(),
    )
    signal.alarm(0)
    if _restarts.is_set():
        with contextlib.suppress(OSError):
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606  (the command that started this process)
    os._exit(AUTORELOAD_EXIT_CODE if os.environ.get("RUN_MAIN") == "true" else os.EX_SOFTWARE)


def describe_threads() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame, limit=MAX_FRAMES))}"
        for ident, frame in sys._current_frames().items()
    )

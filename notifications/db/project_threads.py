"""Threads for periodic work of the app that calls code of the project.

Receivers of signals, managers of users, authentication backends and functions of tasks may take seconds, or break the
connection. On these threads they delay neither claims and records nor pushes.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from notifications.db.threads import DaemonExecutor, NoThread
from notifications.db.unavailable import log_retried

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: One each for the rounds of schedules, announcements, reminders of questions, the search for those who may answer
#: questions, and the deliveries by each channel: none of them must wait for a backend, a receiver or a channel that
#: another one calls. They start when needed.
THREADS = 8
#: Seconds after which a call of a function that may be called beside it is stuck: its code may never return.
STUCK_SECONDS = 10.0


@dataclass(slots=True)
class _Call:
    """A call of a function, from the moment at which it begins to run (monotonic) on a thread."""

    function: Callable[[], Any]
    is_repeated: bool = False
    future: Future[Any] = field(init=False)
    began_at: float | None = None
    thread: int = 0

    def run(self) -> Any:
        self.thread, self.began_at = threading.get_ident(), time.monotonic()
        try:
            result = self.function()
            while self.is_repeated and result is True:
                result = self.function()
            return result
        except BaseException as exc:
            if isinstance(exc, Exception):
                raise
            # SystemExit of the project's code would end the event loop that awaits this call.
            raise RuntimeError(f"Code of the project raised {exc!r}.") from exc


class ProjectThreads:
    """Threads with connections of their own. Each function runs at most once at a time, unless a call is stuck."""

    def __init__(self) -> None:
        self._executor = DaemonExecutor(THREADS, "notifications-project", keep_connections=True)
        self._calls: dict[Callable[[], Any], _Call] = {}
        self._is_closed = False

    def submit(self, function: Callable[[], T], *, may_be_stuck: bool = False) -> Future[T]:
        """Return the future of a call: of the previous one if that still runs. Raises ``NoThread``.

        With ``may_be_stuck`` the function is called again, on another thread, ``STUCK_SECONDS`` after the previous call
        began. It must run beside itself.
        """
        return self._submit(_Call(function), may_be_stuck)

    def _submit(self, call: _Call, may_be_stuck: bool) -> Future[Any]:
        if not self._is_running(call.function, may_be_stuck):
            call.future = self._executor.submit(call.run)
            self._calls[call.function] = call
        return self._calls[call.function].future

    def start(
        self, function: Callable[[], object], error_message: str, *, may_be_stuck: bool = False
    ) -> None:
        """Call a function until it returns something else than True, which means that it has more to do.

        Not if its previous call still runs, or the threads end. Logs an error with ``error_message``.
        ``may_be_stuck`` is that of ``submit()``.
        """
        if self._is_running(function, may_be_stuck):
            return

        def log_error(call: Future[Any]) -> None:
            if not call.cancelled() and (exc := call.exception()):
                log_retried(logger, f"{error_message}, which is tried again", exc)

        try:
            self._submit(_Call(function, is_repeated=True), may_be_stuck).add_done_callback(log_error)
        except NoThread as exc:
            log_retried(logger, f"{error_message}, which is tried again", exc)
        except RuntimeError:
            if not self._is_closed:  # by a process that ends while its last duty runs
                raise

    def close(self) -> list[Future[Any]]:
        """End the threads when their calls are done. Return the calls that run."""
        self._is_closed = True
        self._executor.shutdown()
        return [call.future for call in self._calls.values() if not call.future.done()]

    def end(self, seconds: float) -> None:
        """End the threads when their calls are done. Wait for these, at most this long."""
        wait(self.close(), timeout=seconds)

    def _is_running(self, function: Callable[[], Any], may_be_stuck: bool) -> bool:
        """Return whether a call still runs, and is not stuck. The thread of a stuck one is replaced."""
        call = self._calls.get(function)
        if call is None or call.future.done():
            return False
        if not may_be_stuck or call.began_at is None or time.monotonic() - call.began_at < STUCK_SECONDS:
            return True
        del self._calls[function]
        frame = sys._current_frames().get(call.thread)
        if self._executor.detach(call.future):
            logger.error(
                "Code of the project has not returned for %.0f s, and is called again on another thread. Its "
                "stack:\n%s",
                time.monotonic() - call.began_at,
                "".join(traceback.format_stack(frame)) if frame else "",
            )
        return False

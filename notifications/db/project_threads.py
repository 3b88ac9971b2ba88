"""Threads for periodic work of the app that calls code of the project.

Receivers of signals, managers of users, authentication backends and functions of tasks may take seconds, or break the
connection. On these threads they delay neither claims and records nor pushes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from notifications.db.thread_calls import ThreadCall
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


class ProjectThreads:
    """Threads with connections of their own. Each function runs at most once at a time, unless a call is stuck."""

    def __init__(self) -> None:
        self._executor = DaemonExecutor(THREADS, "notifications-project", keep_connections=True)
        self._calls: dict[Callable[[], Any], ThreadCall] = {}
        self._is_closed = False

    def submit(self, function: Callable[[], T], *, may_be_stuck: bool = False) -> Future[T]:
        """Return the future of a call: of the previous one if that still runs. Raises ``NoThread``.

        With ``may_be_stuck`` the function is called again, on another thread, ``STUCK_SECONDS`` after the previous call
        began. It must run beside itself.
        """
        if not self._is_running(function, may_be_stuck):
            self._calls[function] = self._executor.submit(function)
        return self._calls[function]

    def start(
        self, function: Callable[[], object], error_message: str, *, may_be_stuck: bool = False
    ) -> None:
        """Call a function until it returns something else than True, which means that it has more to do.

        Not if its previous call still runs, or the threads end. Logs an error with ``error_message``.
        ``may_be_stuck`` is that of ``submit()``.
        """
        if self._is_closed or self._is_running(function, may_be_stuck):
            return

        def log_error(call: Future[Any]) -> None:
            if not call.cancelled() and (exc := call.exception()):
                log_retried(logger, f"{error_message}, which is tried again", exc)

        try:
            call = self._calls[function] = self._executor.submit(_call_repeatedly, function)
            call.add_done_callback(log_error)
        except NoThread as exc:
            log_retried(logger, f"{error_message}, which is tried again", exc)

    def close(self) -> list[Future[Any]]:
        """End the threads when their calls are done. Return the calls that run."""
        self._is_closed = True
        self._executor.shutdown()
        return [call for call in self._calls.values() if not call.done()]

    def end(self, seconds: float) -> None:
        """End the threads when their calls are done. Wait for these, at most this long."""
        wait(self.close(), timeout=seconds)

    def _is_running(self, function: Callable[[], Any], may_be_stuck: bool) -> bool:
        """Return whether a call still runs, and is not stuck. One that is stuck is given up."""
        call = self._calls.get(function)
        if call is None or call.done():
            return False
        if not may_be_stuck or call.running_seconds < STUCK_SECONDS:
            return True
        self._executor.give_up(call)
        return False


def _call_repeatedly(function: Callable[[], object]) -> None:
    while function() is True:
        pass

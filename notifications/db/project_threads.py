"""Threads for periodic work of the app that calls code of the project.

Receivers of signals, managers of users, authentication backends and functions of tasks may take seconds, or break the
connection. On these threads they delay neither claims and records nor pushes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from notifications.db.threads import DaemonExecutor, NoThread
from notifications.db.unavailable import is_query_error, log_if_not_migrated

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: One each for the rounds of schedules, announcements, reminders of questions, the search for those who may answer
#: questions, and deliveries: none of them must wait for a backend or a receiver that another one calls. They start when
#: needed.
THREADS = 5


class ProjectThreads:
    """Threads with connections of their own. Each function runs at most once at a time."""

    def __init__(self) -> None:
        self._executor = DaemonExecutor(THREADS, "notifications-project", keep_connections=True)
        self._calls: dict[Callable[[], Any], Future[Any]] = {}

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Return the future of a call: of the previous one if that still runs. Raises ``NoThread``."""
        call = self._calls.get(function)
        if call is None or call.done():
            call = self._calls[function] = self._executor.submit(_call, function)
        return call

    def start(self, function: Callable[[], object], error_message: str) -> None:
        """Call a function, unless its previous call still runs. An error is logged with ``error_message``."""
        if (call := self._calls.get(function)) and not call.done():
            return

        def log_error(call: Future[Any]) -> None:
            if not call.cancelled() and (exc := call.exception()) and not log_if_not_migrated(exc):
                trace = None if is_query_error(exc) else exc
                logger.warning("%s, which is tried again: %s", error_message, exc, exc_info=trace)

        try:
            self.submit(function).add_done_callback(log_error)
        except NoThread as exc:
            logger.warning("%s, which is tried again: %s", error_message, exc)

    def close(self) -> list[Future[Any]]:
        """End the threads when their calls are done. Return the calls that run."""
        self._executor.shutdown()
        return [call for call in self._calls.values() if not call.done()]

    def end(self, seconds: float) -> None:
        """End the threads when their calls are done. Wait for these, at most this long."""
        wait(self.close(), timeout=seconds)


def _call(function: Callable[[], T]) -> T:
    try:
        return function()
    except Exception:
        raise
    except BaseException as exc:
        # SystemExit of the project's code would end the event loop that awaits this call.
        raise RuntimeError(f"Code of the project raised {exc!r}.") from exc

"""Threads of the hub for database queries, and the clock by which it runs those that are periodic.

They are not the thread that ``sync_to_async`` shares, where a slow view or a job's query would delay every push.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from notifications.db.threads import DaemonExecutor
from notifications.db.unavailable import log_retried

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that the end of a hub waits for all threads.
SHUTDOWN_TIMEOUT_SECONDS = 2.0
#: Seconds between two ticks of the clock.
TICK_SECONDS = 1.0


class ThreadPool:
    """``await pool.run(function, …)`` calls a function in one of ``size`` daemon threads, started when needed."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._executor = self._make_executor()

    def run(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Return a future of the running loop with the result or error of ``function(*args)``.

        Never raises: if no thread can be started, the future fails with ``NoThread``. So a caller that has marked the
        call as running can always reset the mark when the future is done.
        """
        try:
            return asyncio.wrap_future(self._executor.submit(function, *args))
        except RuntimeError as exc:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(exc)
            return future

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Return a future of ``function()``, from any thread. Raises ``NoThread`` if no thread can be started."""
        return self._executor.submit(function)

    def close(self) -> list[threading.Thread]:
        """End the threads after their current calls, which closes their connections. Returns the threads.

        Later calls start new threads: requests may still be answered while the server stops.
        """
        closing, self._executor = self._executor, self._make_executor()
        return closing.end()

    def _make_executor(self) -> DaemonExecutor:
        name = f"notifications-{self.name}"
        return DaemonExecutor(self.size, name, keep_connections=True, is_limited=True)


class HubClock:
    """Call ``handle_tick(ticks)`` once per second, with the number of ticks so far, until ``stop()``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle_tick: Callable[[int], None]) -> None:
        self._loop = loop
        self._handle_tick = handle_tick
        self._ticks = 0
        self._running: set[Callable[..., Any]] = set()
        self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        self._timer.cancel()

    def run_in(
        self,
        pool: ThreadPool,
        function: Callable[..., Any],
        *args: Any,
        error_message: str,
        on_result: Callable[[Any], None] | None = None,
        level: int = logging.INFO,
    ) -> None:
        """Call a function in a thread, unless its previous call is still running.

        An error is logged with ``error_message``; else ``on_result`` gets the result.
        """
        if function in self._running:
            return
        self._running.add(function)

        def on_done(future: asyncio.Future[Any]) -> None:
            self._running.discard(function)
            if exc := future.exception():
                log_retried(logger, error_message, exc, level=level)
            elif on_result:
                on_result(future.result())

        pool.run(function, *args).add_done_callback(on_done)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        self._ticks += 1
        self._handle_tick(self._ticks)

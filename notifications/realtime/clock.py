"""Call functions periodically on the event loop, and run periodic database work in threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from notifications.realtime.pool import ThreadPool

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0


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

        An error is logged with ``error_message``, which has a ``%s`` for it; else ``on_result`` gets the result.
        """
        if function in self._running:
            return
        self._running.add(function)

        def on_done(future: asyncio.Future[Any]) -> None:
            self._running.discard(function)
            if exc := future.exception():
                logger.log(level, error_message, exc)
            elif on_result:
                on_result(future.result())

        pool.run(function, *args).add_done_callback(on_done)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        self._ticks += 1
        self._handle_tick(self._ticks)

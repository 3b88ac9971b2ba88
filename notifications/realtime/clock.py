"""What a hub does by the clock: beats and time limits, leftovers, the position check, all sessions now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from notifications import streams
from notifications.jobs.claiming import stranded
from notifications.realtime import doorbell
from notifications.realtime.position_check import PositionCheck, check_positions
from notifications.streams import marking

if TYPE_CHECKING:
    from notifications.realtime.hub import Hub

logger = logging.getLogger(__name__)

#: Seconds between two looks at the clock; such looks between two position checks, and two readings of all sessions.
TICK = 1.0
CHECK_EVERY = 5
SESSIONS_EVERY = 60


class Clock:
    """Runs until ``stop()``."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._ticks = 0
        self._busy: set[Callable] = set()
        self._timer = hub.loop.call_later(TICK, self._tick)

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        hub = self.hub
        self._timer = hub.loop.call_later(TICK, self._tick)
        self._ticks += 1
        now = hub.loop.time()
        for subscriber in hub.subscribers():
            subscriber.check_times(now)
        doorbell.restart_missing()
        self._ask("Leftovers were not numbered: %s", streams.number_pending, level=logging.INFO)
        self._ask("Could not mark notifications as read: %s", marking.continue_marking, level=logging.INFO)
        if self._ticks % CHECK_EVERY == 0:
            self._ask(
                "Not known whether jobs wait in vain: %s", stranded.warn_of_unserved_jobs, level=logging.INFO
            )
        hub.signout.tick()
        if hub.users and self._ticks % CHECK_EVERY == 0:
            self._ask(
                "The positions could not be checked: %s", check_positions, list(hub.users), then=hub.repair
            )
        if hub.users and self._ticks % SESSIONS_EVERY == 0:
            hub.signout.read(hub.subscribers())

    def _ask(
        self,
        failed: str,
        work: Callable,
        *args,
        then: Callable[[PositionCheck], None] | None = None,
        level=logging.WARNING,
    ) -> None:
        """Do some work with the database in a thread, unless the last time is still under way."""
        if work in self._busy:
            return
        self._busy.add(work)

        def done(future: asyncio.Future) -> None:
            self._busy.discard(work)
            if future.exception():
                logger.log(level, failed, future.exception())
            elif then:
                then(future.result())

        writes = (streams.number_pending, marking.continue_marking)
        pool = self.hub.numbers if work in writes else self.hub.auth_pool
        pool.run(work, *args).add_done_callback(done)

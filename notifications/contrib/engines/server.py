"""The upkeep in a server process (ASGI) of a project with engines, because no other process may last."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from notifications.conf import settings
from notifications.extension import Upkeep, Where
from notifications.jobs import aliases_with_engines
from notifications.worker import SignalQueue, SupervisedThread

#: Seconds between two rounds. They vary by a quarter, so that processes do not meet.
ROUND_INTERVAL_SECONDS = 1.0
#: Seconds that a duty may take in one round.
MAX_DUTY_SECONDS = 0.05
#: Seconds that the end of the upkeep waits for code of the project.
END_TIMEOUT_SECONDS = 2.0


class ServerUpkeep(SupervisedThread):
    """Does the duties from ``wake()`` to ``stop()``. After an outage of the database its session begins anew."""

    def __init__(self) -> None:
        super().__init__("notifications-upkeep", self._run_round, session=self._enter, is_limited=False)
        #: Since when (monotonic) each round has come in time and reached the database.
        self._unbroken_since = self._last_round = 0.0
        #: The same after an error, or a duty that fails would always be the first one, and no other one be run.
        self._upkeep: Upkeep | None = None

    @contextmanager
    def _enter(self) -> Iterator[None]:
        self._unbroken_since = self._last_round = time.monotonic()
        signals = SignalQueue()
        signals.use_on_this_thread()
        try:
            yield
        finally:
            signals.end()

    def run(self) -> None:
        """Run rounds until ``stop()``."""
        super().run()
        if self._upkeep:
            self._upkeep.project_threads.end(END_TIMEOUT_SECONDS)

    def _run_round(self) -> float:
        """Run a round, and return the seconds until the next one."""
        now = time.monotonic()
        # After a sleep of this machine, as after an outage, others need a lease's time to renew theirs.
        if now - self._last_round > settings.LEASE / 2:
            self._unbroken_since = now
        self._last_round = now
        if self._upkeep is None:
            self._upkeep = Upkeep(
                Where.ENGINE,
                seconds=MAX_DUTY_SECONDS,
                may_reap=lambda: time.monotonic() - self._unbroken_since >= settings.LEASE,
            )
        self._upkeep.run_round()
        return ROUND_INTERVAL_SECONDS * random.uniform(0.75, 1.25)


#: That of this process.
_upkeep = ServerUpkeep()


def start() -> None:
    """Start the upkeep of this process, once, if a backend has an engine. Raises ``NoThread``."""
    if aliases_with_engines():  # not whether they can be set up: one that cannot must not stop the others
        _upkeep.wake()

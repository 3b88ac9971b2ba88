"""A clock that tests can advance."""

from __future__ import annotations

from datetime import datetime, timedelta

from notifications.db import clock as db_clock


class Clock:
    """The clock by which jobs become due: the database's, plus ``ahead``.

    ``run_after``, the pauses before retries and the leases of workers go by it, in this process only.
    """

    @property
    def ahead(self) -> timedelta:
        """How far the clock was advanced."""
        return db_clock.clock_offset

    @ahead.setter
    def ahead(self, value: timedelta) -> None:
        db_clock.clock_offset = value

    def now(self) -> datetime:
        """Return the current time of the clock."""
        return db_clock.database_now()

    def advance(self, by: float | timedelta) -> None:
        """Advance the clock by seconds or a timedelta."""
        self.ahead += by if isinstance(by, timedelta) else timedelta(seconds=by)

    def reset(self) -> None:
        """Undo all ``advance()``. A TestCase does that at the end of a test: ``self.addCleanup(clock.reset)``."""
        self.ahead = timedelta()


clock = Clock()

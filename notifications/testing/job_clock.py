"""A clock that a test moves."""

from __future__ import annotations

from datetime import datetime, timedelta


class Clock:
    """The clock by which jobs become due: the database's, so far ``ahead`` as a test has moved it.

    It decides about ``run_after``, the pauses between attempts and the leases of workers, in this process alone.
    """

    @property
    def ahead(self) -> timedelta:
        """How far it was moved."""
        from notifications.jobs.transitions import guards

        return guards.clock_offset

    @ahead.setter
    def ahead(self, value: timedelta) -> None:
        from notifications.jobs.transitions import guards

        guards.clock_offset = value

    def now(self) -> datetime:
        """Return the time that it shows."""
        from notifications.jobs.transitions import guards

        return guards.database_now()

    def advance(self, by: float | timedelta) -> None:
        """Move it forward, by seconds or a timedelta."""
        self.ahead += by if isinstance(by, timedelta) else timedelta(seconds=by)

    def reset(self) -> None:
        """Have it right again. A test that moves it does so at its end: ``self.addCleanup(clock.reset)``."""
        self.ahead = timedelta()


clock = Clock()

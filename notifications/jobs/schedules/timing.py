"""When a schedule is due: pure functions of times, with a bounded cost for any expression."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim

#: Ticks at an interval are multiples of it from this moment, a Monday, so that weekly ones are on Mondays.
INTERVAL_ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
MIN_INTERVAL, MAX_INTERVAL = timedelta(seconds=1), timedelta(days=366)
MAX_CRON_LENGTH = 200
#: Ticks of a cron expression that ``count_ticks`` counts at most.
MAX_COUNTED_TICKS = 1_000
#: Cron expressions have no ticks that are closer.
CRON_RESOLUTION = timedelta(minutes=1)
#: Ticks that are skipped at most because clocks were set back: those of the repeated hour.
MAX_REPEATED_TICKS = 200


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: a cron expression in a time zone, or an interval. All times are aware and in UTC."""

    cron: str = ""
    zone: str = ""
    every: timedelta | None = None

    def __str__(self) -> str:
        return f"every {self.every.total_seconds():g} s" if self.every else f"{self.cron} {self.zone}"

    def next_tick(self, after: datetime) -> datetime | None:
        """Return the first tick after a time, None if there is none within 50 years."""
        if self.every:
            return INTERVAL_ORIGIN + ((after - INTERVAL_ORIGIN) // self.every + 1) * self.every
        ticks = CronSim(self.cron, after.astimezone(ZoneInfo(self.zone)))
        # In the hour after clocks were set back, cronsim begins with ticks of the hour before.
        for tick in islice(ticks, MAX_REPEATED_TICKS):
            if (moment := tick.astimezone(UTC)) > after:
                return moment
        return None

    def newest_tick(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last tick after a time, up to and including another one. None if there is none.

        However many ticks are between them: it bisects.
        """
        if self.every:
            last = INTERVAL_ORIGIN + ((until - INTERVAL_ORIGIN) // self.every) * self.every
            return last if last > after else None
        newest = after
        without_tick_after = until
        while True:
            tick = self.next_tick(newest)
            if tick is None or tick > until:
                return newest if newest > after else None
            newest = tick
            while without_tick_after - newest > CRON_RESOLUTION:
                middle = newest + (without_tick_after - newest) / 2
                following = self.next_tick(middle)
                if following is not None and following <= until:
                    newest = following
                else:
                    without_tick_after = middle

    def count_ticks(self, after: datetime, until: datetime) -> int:
        """Return how many ticks are after a time, up to another one.

        Those of a cron expression are counted up to ``MAX_COUNTED_TICKS``.
        """
        if self.every:
            return (until - INTERVAL_ORIGIN) // self.every - (after - INTERVAL_ORIGIN) // self.every
        count = 0
        while count < MAX_COUNTED_TICKS:
            tick = self.next_tick(after)
            if tick is None or tick > until:
                break
            after, count = tick, count + 1
        return count

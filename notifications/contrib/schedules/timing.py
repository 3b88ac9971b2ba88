"""When a schedule is due: pure functions of times, with a bounded cost for any expression.

cronsim is given wall times only, without a zone, and this module maps them to moments by the rules of Debian's cron:
around changes by half an hour, or at midnight, cronsim's own rules repeat and lose ticks.

- An expression whose minutes and hours do not begin with ``*`` is due once for each wall time: the first time if it
  comes twice, and right after the change if clocks skip it.
- Any other one is due in real time, at each moment whose wall time it matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import dropwhile
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured

from notifications import times

try:
    from cronsim import CronSim
    from cronsim import CronSimError as CronSimError
except ImportError as exc:
    raise ImproperlyConfigured(
        'cronsim is not installed. Install it: pip install "asyncsite-notifications[schedules]".'
    ) from exc

#: Ticks at an interval are multiples of it from this moment, a Monday, so that weekly ones are on Mondays.
INTERVAL_ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
MIN_INTERVAL, MAX_INTERVAL = timedelta(seconds=1), timedelta(days=366)
MAX_CRON_LENGTH = 200
#: Ticks of a cron expression that ``count_ticks`` counts at most; one more means that there may be more.
MAX_COUNTED_TICKS = 1_000
#: Cron expressions have no ticks that are closer.
CRON_RESOLUTION = timedelta(minutes=1)
#: No zone changes its offset twice within this time.
MIN_CHANGE_INTERVAL = timedelta(days=7)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: a cron expression in a time zone, or an interval. All times are aware and in UTC."""

    cron: str = ""
    zone: str = ""
    every: timedelta | None = None

    @classmethod
    def of_text(cls, text: str) -> Timing:
        """Return the cron expression in a time zone with this text."""
        cron, _, zone = text.rpartition(" ")
        return cls(cron=cron, zone=zone)

    def __str__(self) -> str:
        return f"every {self.every.total_seconds():g} s" if self.every else f"{self.cron} {self.zone}"

    @property
    def is_in_real_time(self) -> bool:
        """Whether a change of clocks, or another zone, moves no tick of it."""
        return self.every is not None or any(field.startswith("*") for field in self.cron.split()[:2])

    def next_tick(self, after: datetime) -> datetime | None:
        """Return the first tick after a time, None if there is none within 50 years."""
        if self.every:
            return INTERVAL_ORIGIN + ((after - INTERVAL_ORIGIN) // self.every + 1) * self.every
        zone = ZoneInfo(self.zone)
        if self.is_in_real_time:
            return self._next_real_time(after, zone)
        # In the hour after clocks were set back, the wall times of the hour before come first.
        moments = (_moment(wall, zone) for wall in self._wall_times(_wall_time(after, zone)))
        return next(dropwhile(lambda moment: moment <= after, moments), None)

    def _next_real_time(self, after: datetime, zone: ZoneInfo) -> datetime | None:
        since = after
        while True:
            offset = _offset(since, zone)
            wall = next(self._wall_times(after.replace(tzinfo=None) + offset), None)
            if wall is None:
                return None
            moment = (wall - offset).replace(tzinfo=UTC)
            change = _next_change(since, moment, zone)
            if change is None:
                return moment
            # Ticks at the very moment of the change included.
            since, after = change, change - SECOND

    def _wall_times(self, after: datetime) -> Iterator[datetime]:
        return CronSim(self.cron, after)

    def next_in_zone(self, tick: datetime, before: Timing, now: datetime) -> datetime | None:
        """Return the next tick of this expression in place of ``tick``, which is that of the same one in another zone.

        That is a change of clocks: a wall time that it skips is due right after it, and none comes twice. So the tick
        keeps its wall time, however often the zone changes.
        """
        if self.is_in_real_time:
            return self.next_tick(now)
        left = ZoneInfo(before.zone)
        wall = next(self._wall_times(_wall_time(tick - SECOND, left)), None)
        # Else it is due right after an earlier move. Of one right after a change of clocks, the time that this skips.
        if wall is None or _moment(wall, left) != tick:
            wall = _wall_time(tick, left)
        return max(_moment(wall, ZoneInfo(self.zone)), now.replace(microsecond=0))

    def is_beyond_next(self, tick: datetime, now: datetime) -> bool:
        """Return whether a tick that is stored as the next one lies beyond it, because a clock was wrong."""
        latest = times.latest_possible(now)
        following = self.next_tick(latest) if tick > latest else None
        return following is not None and tick > following

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

        Those of a cron expression are counted up to ``MAX_COUNTED_TICKS + 1``.
        """
        if self.every:
            return (until - INTERVAL_ORIGIN) // self.every - (after - INTERVAL_ORIGIN) // self.every
        count = 0
        while count <= MAX_COUNTED_TICKS:
            tick = self.next_tick(after)
            if tick is None or tick > until:
                break
            after, count = tick, count + 1
        return count


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _wall_time(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment that a clock of the zone shows a wall time, or a later one if it skips that."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    shown = _wall_time(moment, zone)
    if shown == wall:
        return moment
    # Python maps it to the moment at which the clock would show it without the change.
    return _next_change(moment - (shown - wall), moment, zone) or moment


def _next_change(after: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first moment with another offset after a moment and up to another one, None if there is none."""
    offset = _offset(after, zone)
    while after < until:
        end = min(after + MIN_CHANGE_INTERVAL, until)
        if _offset(end, zone) != offset:
            while end - after > SECOND:
                middle = after + (end - after) // 2
                after, end = (middle, end) if _offset(middle, zone) == offset else (after, middle)
            return end.replace(microsecond=0)
        after = end
    return None

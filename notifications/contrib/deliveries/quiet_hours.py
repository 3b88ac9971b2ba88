"""Quiet hours: when nothing but what is urgent is sent to a user by channels other than the bell.

They begin at a time of a weekday, and end at one of the same day, or, if that is not later, of the next day.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.utils import timezone

from notifications.contrib.deliveries.models import Reader

DAYS_PER_WEEK, MINUTES_PER_DAY = 7, 24 * 60
#: Quiet hours that follow one another without a break: one for each day, and the first of the next week.
MAX_IN_A_ROW = DAYS_PER_WEEK + 1


@cache
def zone_names() -> frozenset[str]:
    """Return the names of all time zones. Finding them reads hundreds of files."""
    # On some systems the names of files that stand for no place are among them.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def zone_of(reader: Reader) -> ZoneInfo:
    """Return the time zone of a reader, that of the site where none is chosen, or it does not exist any more."""
    try:
        return ZoneInfo(reader.time_zone)
    except (KeyError, OSError, ValueError):
        return timezone.get_default_timezone()


def place_of(zone: str) -> str:
    """Return what people call the place of a time zone: "New York" for ``"America/New_York"``."""
    return zone.rpartition("/")[2].replace("_", " ")


def quiet_until(reader: Reader, moment: datetime) -> datetime | None:
    """Return when the quiet hours around a time end, in UTC, None if there are none then.

    Those that follow without a break belong to them. A time that clocks leave out is where the time zone puts it; of
    one that they repeat it is the first.
    """
    if not reader.quiet_hours:
        return None
    zone, until = zone_of(reader), moment
    for _ in range(MAX_IN_A_ROW):
        if (end := _find_end(reader.quiet_hours, zone, until)) is None:
            break
        until = end
    return until if until > moment else None


def _find_end(hours: list[Any], zone: tzinfo, moment: datetime) -> datetime | None:
    today = moment.astimezone(zone).date()
    around = [_bounds(hours, zone, day) for day in (today - timedelta(days=1), today)]
    return max((end for begin, end in filter(None, around) if begin <= moment < end), default=None)


def _bounds(hours: list[Any], zone: tzinfo, day: date) -> tuple[datetime, datetime] | None:
    """Return when the quiet hours begin and end that begin on a day, in UTC."""
    if not (of_day := hours[day.weekday()]):
        return None
    begin, end = map(time.fromisoformat, of_day)
    last_day = day if end > begin else day + timedelta(days=1)
    return (
        datetime.combine(day, begin, zone).astimezone(UTC),
        datetime.combine(last_day, end, zone).astimezone(UTC),
    )


def check_quiet_hours(value: Any) -> None:
    """Raise ``ValueError`` for what cannot be stored as quiet hours: it is no week of them, or leaves no other time."""
    if value is None:
        return
    if not isinstance(value, list) or len(value) != DAYS_PER_WEEK:
        raise ValueError(
            'Quiet hours are a list for the days from Monday on, each null or like ["22:00", "07:00"].'
        )
    quiet: set[int] = set()
    for day, of_day in enumerate(value):
        if of_day is None:
            continue
        if not isinstance(of_day, list) or len(of_day) != 2:
            raise ValueError(
                f'{of_day!r} are no quiet hours. Write null, or two times like ["22:00", "07:00"].'
            )
        begin, end = map(_parse_minute, of_day)
        first = day * MINUTES_PER_DAY + begin
        minutes = (end - begin - 1) % MINUTES_PER_DAY + 1
        quiet |= {minute % (DAYS_PER_WEEK * MINUTES_PER_DAY) for minute in range(first, first + minutes)}
    if len(quiet) == DAYS_PER_WEEK * MINUTES_PER_DAY:
        raise ValueError("Quiet hours must leave some time of the week. Pause everything, or switch it off.")


def _parse_minute(text: Any) -> int:
    try:
        parsed = time.fromisoformat(text) if isinstance(text, str) and len(text) == len("22:00") else None
    except ValueError:
        parsed = None
    if parsed is None or text != f"{parsed:%H:%M}":
        raise ValueError(f"{str(text)[:20]!r} is not a time. Write one like 22:00.")
    return parsed.hour * 60 + parsed.minute

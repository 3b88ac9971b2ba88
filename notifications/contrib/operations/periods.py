"""The times that pages of operators are about: a period until now, today, or from one time to another."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from notifications import times

#: Periods until now, by the names in addresses.
LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
TODAY = "today"
#: The longest range, and how long ago it may begin: for so long the statistics have minutes.
MAX_RANGE, MAX_RANGE_AGE = timedelta(days=14), timedelta(days=30)
#: The least: statistics are of minutes.
MIN_RANGE = timedelta(minutes=1)


def read_span(period: str, now: datetime) -> tuple[datetime, datetime | None]:
    """Return when a period begins and ends, None for now.

    ``period``
        One of ``LENGTHS``; ``"today"``, which begins at midnight in the current time zone; or two times in ISO 8601
        with a slash between them: ``"2026-11-29T09:00:00Z/2026-11-29T10:00:00Z"``.

    Raises ValueError for another period, and for a range that is empty, too long or too long ago.
    """
    if period in LENGTHS:
        return now - LENGTHS[period], None
    if period == TODAY:
        midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
        return min(times.as_utc(midnight), now - MIN_RANGE), None
    since, until = (parse_datetime(text) for text in (*period.split("/"), "", "")[:2])
    if since is None or until is None or since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"{period!r} is no period.")
    if not MIN_RANGE <= until - since <= MAX_RANGE or not since <= now <= since + MAX_RANGE_AGE:
        raise ValueError(f"The range {period!r} is empty, too long or too long ago.")
    return times.as_utc(since), times.as_utc(until)


def make_range(since: datetime, until: datetime) -> str:
    """Return the period between two times, for addresses."""
    return "/".join(f"{times.as_utc(moment):%Y-%m-%dT%H:%M:%SZ}" for moment in (since, until))

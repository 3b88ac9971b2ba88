"""What people read of a stored schedule: its times, and how it is."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.formats import date_format, time_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.timing import Timing
from notifications.times import format_short

#: A Monday.
MONDAY = date(2024, 1, 1)
#: The last three fields of cron expressions that have names: every day, from Monday to Friday, and the first of months.
DAILY, WEEKDAYS, MONTHLY = "* * *", "* * 1-5", "1 * *"
_FIXED_TIME = re.compile(r"(\d{1,2}) (\d{1,2}) (\S+ \S+ \S+)")


def list_days() -> list[tuple[str, str]]:
    """Return the last three fields of cron expressions that people choose from, with their names."""
    weekdays = [(f"* * {day % 7}", _weekday(day)) for day in range(1, 8)]
    return [
        (DAILY, _("Every day")),
        (WEEKDAYS, _("Monday to Friday")),
        *weekdays,
        (MONTHLY, _("The first of each month")),
    ]


def _weekday(day: int) -> str:
    return _("Every %(weekday)s") % {"weekday": date_format(MONDAY + timedelta(days=day - 1), "l")}


def describe_timing(timing: Timing) -> str:
    """Return the times of a schedule as people write them, in the active language; of others the expression."""
    if timing.every:
        return _describe_interval(timing.every)
    names = dict(list_days())
    found = _FIXED_TIME.fullmatch(timing.cron)
    text = timing.cron
    if found and (days := names.get(found[3])) and int(found[1]) < 60 and int(found[2]) < 24:
        at = time_format(time(int(found[2]), int(found[1])), "TIME_FORMAT")
        text = _("%(days)s at %(time)s") % {"days": days, "time": at}
    return f"{text} ({place_of(timing.zone)})"


def _describe_interval(every: timedelta) -> str:
    seconds = every.total_seconds()
    if not seconds % 86_400:
        count = int(seconds / 86_400)
        text = ngettext("Every day", "Every %(count)d days", count)
    elif not seconds % 3_600:
        count = int(seconds / 3_600)
        text = ngettext("Every hour", "Every %(count)d hours", count)
    elif not seconds % 60:
        count = int(seconds / 60)
        text = ngettext("Every minute", "Every %(count)d minutes", count)
    else:
        count = int(seconds)
        text = ngettext("Every second", "Every %(count)d seconds", count)
    return text % {"count": count}


def place_of(zone: str) -> str:
    """Return what people call the place of a time zone: "New York" for ``"America/New_York"``."""
    return zone.rpartition("/")[2].replace("_", " ")


def describe_moment(moment: datetime, timing: Timing) -> str:
    """Return a tick in the time zone of its schedule, with the name of the zone."""
    with timezone.override(ZoneInfo(timing.zone) if timing.zone else timezone.get_current_timezone()):
        return format_short(moment)


def list_next_ticks(timing: Timing, now: datetime, count: int) -> list[str]:
    """Return the next ticks in the time zone of a schedule."""
    found: list[str] = []
    tick: Any = now
    while len(found) < count and (tick := timing.next_tick(tick)):
        found.append(describe_moment(tick, timing))
    return found


def describe_pause(row: Schedule) -> str:
    """Return why a schedule is paused."""
    if row.paused_by == Schedule.PausedBy.FAILURES:
        text = ngettext("Paused after a failed run", "Paused after %(count)d failed runs", row.failures)
        return text % {"count": row.failures}
    return _("Paused: its owner is not active") if row.paused_by else _("Paused")

"""Incidents in words: since when, for how long, and why."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from notifications import times


def format_since(moment: datetime, now: datetime) -> str:
    """Return a time in the active language and time zone: of today "01:13", of another day with the day."""
    local = timezone.localtime(times.as_utc(moment))
    if local.date() != timezone.localtime(times.as_utc(now)).date():
        return times.format_short(moment)
    is_english = (get_language() or "").startswith("en")
    return str(date_format(local, "H:i" if is_english else "TIME_FORMAT"))


def format_span(seconds: float) -> str:
    """Return a time in hours and minutes, such as "1 h 27 min", in seconds if it is less than one minute."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return _("%(count)d s") % {"count": seconds}
    if minutes < 60:
        return _("%(count)d min") % {"count": minutes}
    hours, minutes = divmod(minutes, 60)
    if not minutes:
        return _("%(count)d h") % {"count": hours}
    return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}


def describe_over(begun_at: datetime, over_at: datetime, now: datetime) -> str:
    """Return since when an incident is over, and how long it lasted."""
    lasted = format_span((over_at - begun_at).total_seconds())
    return _("over since %(time)s, lasted %(span)s") % {"time": format_since(over_at, now), "span": lasted}


def describe_cause(exception: str, place: str, others: int) -> str:
    """Return the class of an exception, the place of it, and how many others there are."""
    cause = exception.rpartition(".")[2] or _("no exception")
    if place:
        cause = _("%(error)s at %(place)s") % {"error": cause, "place": place}
    if not others:
        return cause
    text = ngettext("%(cause)s and %(count)d other error", "%(cause)s and %(count)d other errors", others)
    return text % {"cause": cause, "count": others}

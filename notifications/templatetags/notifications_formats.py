"""Filters of pages of the admin: times, durations, rates, shares and ages in words."""

from __future__ import annotations

import re
from datetime import datetime

from django import template
from django.utils.formats import date_format
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from notifications import times
from notifications.times import format_number, short_number

register = template.Library()


@register.filter
def duration(seconds: float | None) -> str:
    """Return a time as ``times.describe_duration()`` does; a dash for None."""
    return "-" if seconds is None else times.describe_duration(seconds)


@register.filter
def breakable(name: str) -> SafeString:
    """Return the path of a class or file, which may be broken after its dots, slashes and underscores only."""
    return mark_safe(re.sub(r"([./_])", r"\1<wbr>", conditional_escape(name)))  # noqa: S308  # it is escaped


@register.filter
def to_second(moment: datetime | None) -> str:
    """Return a ``<time>`` element with a time to the second, of today without the date; a dash for None."""
    if moment is None:
        return "-"
    local = localtime(times.as_utc(moment))
    shown = date_format(local, "H:i:s")
    if local.date() != localtime(times.now()).date():
        shown = f"{date_format(local, 'SHORT_DATE_FORMAT')} {shown}"
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), shown)


@register.filter
def rate(per_minute: float | None) -> str:
    """Return a count, or jobs per minute with at most one decimal; a dash for None.

    Below 0.1 there are two decimals: one job in an hour is "0.02", and less than that "<0.01", never "0".
    """
    if per_minute is None:
        return "-"
    if 0 < per_minute < 0.005:
        return f"<{format_number(0.01)}"
    if 0 < per_minute < 0.095:
        return format_number(round(per_minute, 2))
    return short_number(per_minute)


@register.filter
def percent(share: float | None) -> str:
    """Return a share in percent, such as ``2.5 %``; a dash for None."""
    return "-" if share is None else _("%(count)s %%") % {"count": short_number(share)}


@register.filter
def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a time was, such as ``4 min ago``; a dash for None."""
    if moment is None:
        return "-"
    seconds = max(0.0, (now - moment).total_seconds())
    return _("just now") if seconds < 1 else _("%(time)s ago") % {"time": duration(float(round(seconds)))}

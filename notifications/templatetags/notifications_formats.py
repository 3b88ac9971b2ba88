"""Filters of pages of the admin: times, durations, rates, shares and ages in words."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from django import template
from django.utils.formats import date_format, number_format
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import localtime
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from notifications import times

register = template.Library()


@register.filter
def duration(seconds: float | None) -> str:
    """Return a time such as ``12 ms``, ``1.5 s``, ``4 min``, ``2.1 h`` or ``3 d``; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return _("%(count)s ms") % {"count": _format(round(seconds * 1000), get_language())}
    if seconds < 99.5:
        return _("%(count)s s") % {"count": _short(seconds)}
    if seconds < 99.5 * 60:
        return _("%(count)s min") % {"count": _short(seconds / 60)}
    if seconds < 48 * 3600:
        return _("%(count)s h") % {"count": _short(seconds / 3600)}
    return _("%(count)s d") % {"count": _short(seconds / 86400)}


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
        return f"<{_format(0.01, get_language())}"
    if 0 < per_minute < 0.095:
        return _format(round(per_minute, 2), get_language())
    return _short(per_minute)


@register.filter
def percent(share: float | None) -> str:
    """Return a share in percent, such as ``2.5 %``; a dash for None."""
    return "-" if share is None else _("%(count)s %%") % {"count": _short(share)}


@register.filter
def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a time was, such as ``4 min ago``; a dash for None."""
    if moment is None:
        return "-"
    seconds = max(0.0, (now - moment).total_seconds())
    return _("just now") if seconds < 1 else _("%(time)s ago") % {"time": duration(float(round(seconds)))}


def _short(number: float) -> str:
    return _format(round(number, 0 if number >= 9.95 else 1), get_language())


@lru_cache(maxsize=4096)
def _format(rounded: float, language: str | None) -> str:
    """Format a number for a language. Django needs 20 µs for it, and a page has a thousand numbers, many equal."""
    number = int(rounded) if rounded == int(rounded) else rounded
    return number_format(number, use_l10n=True, force_grouping=True)

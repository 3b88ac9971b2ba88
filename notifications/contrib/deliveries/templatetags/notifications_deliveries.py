"""The template filters of e-mails: ``{% load notifications_deliveries %}``."""

from __future__ import annotations

from datetime import datetime

from django import template

from notifications import times

register = template.Library()


@register.filter
def short_time(moment: datetime) -> str:
    """Return a time as people write it: "Nov 28, 14:02 UTC". See ``times.format_short()``."""
    return times.format_short(moment)

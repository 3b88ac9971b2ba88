"""Times and timelines in pages of the admin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils import formats
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django.utils.timezone import template_localtime

from notifications.extension import Event


def lines_of_events(events: Iterable[Event]) -> str:
    """Return events as HTML, one in each line, with their times."""
    lines = ((f"{moment(event.at)} · " if event.at else "", event.text) for event in events)
    return format_html_join(mark_safe("<br>"), "{}{}", lines)


def moment(value: Any) -> str:
    """Return a time in the time zone of the page, with the name of the zone."""
    local = template_localtime(value)
    return f"{formats.date_format(local, 'DATETIME_FORMAT')} {local.tzname() or ''}".strip()

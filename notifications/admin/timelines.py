"""Timelines in pages of the admin."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.html import format_html_join
from django.utils.safestring import mark_safe

from notifications.admin.schedules import moment
from notifications.deliveries.calls import Event


def lines_of_events(events: Iterable[Event]) -> str:
    """Return events as HTML, one in each line, with their times."""
    lines = ((f"{moment(event.at)} · " if event.at else "", event.text) for event in events)
    return format_html_join(mark_safe("<br>"), "{}{}", lines)

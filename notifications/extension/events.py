"""Lines of a timeline."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from notifications import times


class Event(NamedTuple):
    """Something that happened to a notification or a job, or is to happen.

    ``at``
        None if it is not known when.
    """

    at: datetime | None
    text: str


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return events in the order of their times; those without a time come last."""
    return sorted(events, key=lambda event: (event.at is None, event.at and times.as_utc(event.at)))

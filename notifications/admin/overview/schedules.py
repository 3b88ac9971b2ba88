"""Schedules with their last and next runs."""

from __future__ import annotations

from notifications.db.transactions import database
from notifications.models import Schedule

#: The schedules that are read at most: those that are due next.
MAX_SCHEDULES = 100


def read_schedules() -> list[Schedule]:
    """Return the schedules, those with a problem first, then by their next tick."""
    rows = Schedule.objects.using(database()).order_by("next_tick", "name")[:MAX_SCHEDULES]
    return sorted(rows, key=lambda schedule: not schedule.problem)

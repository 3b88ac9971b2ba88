"""Times of schedules that were stored while a clock was wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from notifications.db.stored_time import StoredTime
from notifications.models import Schedule
from notifications.schedules.declarations import declared_schedules


def stored_times() -> list[StoredTime]:
    """Return the times that gate schedules."""
    return [
        StoredTime(model=Schedule, name="last_tick"),
        NextTick(model=Schedule, name="next_tick", can_repair=False),
    ]


class NextTick(StoredTime):
    """The next tick of a schedule, which a round computes anew. ``doctor`` only names it."""

    def find(self, now: datetime) -> Any:
        rows, declared = super().find(now), declared_schedules()
        wrong = [
            row.pk
            for row in rows.filter(name__in=declared, paused_at=None)
            if declared[row.name].timing.is_beyond_next(row.next_tick, now)
        ]
        return rows.filter(pk__in=wrong)

"""What ``doctor`` examines: the declarations of schedules, and times that were stored while a clock was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.utils import translation

from notifications.contrib.schedules.declarations import declared_schedules
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.tasks import find_wrong_schedules
from notifications.contrib.schedules.users import find_problem
from notifications.db.clock import StoredTime
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding


def find_schedules(timeout: float) -> Iterator[Finding]:
    """Yield whether all schedules are declared correctly, and whether their owners and groups exist."""
    if wrong := find_wrong_schedules():
        first = wrong[0]
        others = f" manage.py check has {len(wrong) - 1} more." if len(wrong) > 1 else ""
        yield Finding(
            "schedules",
            ERROR,
            f"{first.message} ({first.id}) Only this schedule does not run.{others}",
            first.hint,
            {"ids": [declaration.id for declaration in wrong]},
        )
        return
    declared = declared_schedules()
    with translation.override("en"):
        problems = {name: found for name in declared if (found := find_problem(declared[name]))}
    if problems:
        name, (message, remedy) = next(iter(problems.items()))
        others = f" {len(problems) - 1} more have such a problem." if len(problems) > 1 else ""
        yield Finding(
            "schedules", WARNING, f"{name}: {message}{others}", remedy, {"schedules": list(problems)}
        )
        return
    count = len(declared)
    yield Finding("schedules", OK, f"Declared correctly: {count}." if count else "None is declared.")


def list_stored_times(now: datetime) -> list[StoredTime]:
    """Return the times that gate schedules. See ``Extension.stored_times()``."""
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

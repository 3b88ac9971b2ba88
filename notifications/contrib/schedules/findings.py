"""What ``doctor`` examines: schedules that are overdue, and their owners and groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Warning
from django.utils import translation

from notifications.contrib.schedules.declarations import declared_schedules
from notifications.contrib.schedules.problems import find_overdue
from notifications.contrib.schedules.users import find_problem
from notifications.db import database, database_now, is_lease_valid
from notifications.management import register
from notifications.models import Worker

#: Schedules, and workers, that a message names at most.
MAX_SCHEDULES_NAMED = 10


@register("processes", "schedules")
def check_schedules(**options: Any) -> Iterator[CheckMessage]:
    """Check that no schedule is overdue, and that their owners and groups exist."""
    now = database_now()
    if overdue := find_overdue(now):
        # Whose owners are not looked up here too, which may not return.
        named = ", ".join(
            f"{row.name} ({(now - row.next_tick).total_seconds():.0f} s ago)"
            for row in overdue[:MAX_SCHEDULES_NAMED]
            if row.next_tick
        )
        others = len(overdue) - MAX_SCHEDULES_NAMED
        message = (
            f"Due, and neither enqueued nor missed: {named}{f' and {others} more' if others > 0 else ''}."
        )
        remedy = "Start a worker: manage.py run_jobs. If one is running, see its log."
        live = Worker.objects.using(database()).filter(is_lease_valid(now))
        if stuck := list(live.filter(stuck_calls__gt=0).order_by("id")[:MAX_SCHEDULES_NAMED]):
            message += f" Code of the project does not return in {', '.join(map(str, stuck))}."
            remedy = (
                "Look for its stack in the log, after 'has not returned', and give that code a time limit."
            )
        yield Error(message, hint=remedy, obj={"overdue": [row.name for row in overdue]})
        return
    declared = declared_schedules()
    with translation.override("en"):
        problems = {name: found for name in declared if (found := find_problem(declared[name]))}
    for name, (problem, remedy) in problems.items():
        yield Warning(f"{name}: {problem}", hint=remedy)
    if not problems:
        yield Info(f"Declared: {len(declared)}." if declared else "None is declared.")

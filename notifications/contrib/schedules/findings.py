"""What ``doctor`` examines: the declarations of schedules, and those that are overdue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.utils import translation

from notifications.contrib.schedules.declarations import declared_schedules
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.problems import find_overdue
from notifications.contrib.schedules.tasks import find_wrong_schedules
from notifications.contrib.schedules.users import find_problem
from notifications.db import database, database_now, is_lease_valid
from notifications.management import ERROR, OK, WARNING, Finding
from notifications.models import Worker

#: Schedules, and workers, that a message names at most.
MAX_SCHEDULES_NAMED = 10


def find_schedules(timeout: float) -> Iterator[Finding]:
    """Yield whether all schedules are declared correctly, none is overdue, and their owners and groups exist."""
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
    now = database_now()
    if overdue := find_overdue(now):
        # Whose owners are not looked up here too, which may not return.
        yield _describe_overdue(overdue, now)
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


def _describe_overdue(overdue: Sequence[Schedule], now: datetime) -> Finding:
    named = ", ".join(
        f"{row.name} ({(now - row.next_tick).total_seconds():.0f} s ago)"
        for row in overdue[:MAX_SCHEDULES_NAMED]
        if row.next_tick
    )
    others = f" and {len(overdue) - MAX_SCHEDULES_NAMED} more" if len(overdue) > MAX_SCHEDULES_NAMED else ""
    message = f"Due, and neither enqueued nor missed: {named}{others}."
    remedy = "Start a worker: manage.py run_jobs. If one is running, see its log."
    live = Worker.objects.using(database()).filter(is_lease_valid(now))
    if stuck := list(live.filter(stuck_calls__gt=0).order_by("id")[:MAX_SCHEDULES_NAMED]):
        message += f" Code of the project does not return in {', '.join(map(str, stuck))}."
        remedy = "Look for its stack in the log, after 'has not returned', and give that code a time limit."
    return Finding("schedules", ERROR, message, remedy, {"overdue": [row.name for row in overdue]})

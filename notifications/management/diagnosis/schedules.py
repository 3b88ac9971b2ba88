"""The check of the declarations of schedules, each of which disables itself if it is wrong."""

from __future__ import annotations

from notifications.management.diagnosis.finding import ERROR, OK, Finding
from notifications.schedules.declarations import declared_schedules, wrong_declarations
from notifications.schedules.tasks import find_wrong_tasks


def check_schedules() -> Finding:
    """Check that all schedules are declared correctly."""
    wrong = [*wrong_declarations(), *find_wrong_tasks()]
    if wrong:
        first = wrong[0]
        others = f" manage.py check has {len(wrong) - 1} more." if len(wrong) > 1 else ""
        return Finding(
            check="schedules",
            state=ERROR,
            message=f"{first.message} ({first.id}) Only this schedule does not run.{others}",
            remedy=first.hint,
            figures={"ids": [declaration.id for declaration in wrong]},
        )
    count = len(declared_schedules())
    message = f"Declared correctly: {count}." if count else "None is declared."
    return Finding(check="schedules", state=OK, message=message)

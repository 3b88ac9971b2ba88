"""Check of the declarations of schedules."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import translation

from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding
from notifications.schedules.declarations import declared_schedules, wrong_declarations
from notifications.schedules.tasks import find_wrong_tasks
from notifications.schedules.users import find_problem


def find_schedules(timeout: float) -> Iterable[Finding]:
    """Return the finding of ``check_schedules()``."""
    return [check_schedules()]


def check_schedules() -> Finding:
    """Check that all schedules are declared correctly, and that their owners and groups exist."""
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
    declared = declared_schedules()
    with translation.override("en"):
        problems = {name: found for name in declared if (found := find_problem(declared[name]))}
    if problems:
        name, (message, remedy) = next(iter(problems.items()))
        others = f" {len(problems) - 1} more have such a problem." if len(problems) > 1 else ""
        return Finding(
            check="schedules",
            state=WARNING,
            message=f"{name}: {message}{others}",
            remedy=remedy,
            figures={"schedules": list(problems)},
        )
    count = len(declared)
    message = f"Declared correctly: {count}." if count else "None is declared."
    return Finding(check="schedules", state=OK, message=message)

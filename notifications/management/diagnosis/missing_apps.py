"""Check of optional apps that are not installed, and have tables, queued jobs or open waits in the database."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.apps import apps
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count

from notifications.db.transactions import connection, database
from notifications.extension import hooks
from notifications.jobs.claiming.executors import OBSERVED
from notifications.jobs.results import find_task
from notifications.management.diagnosis.finding import OK, WARNING, Finding
from notifications.models import Job, Wait
from notifications.states import ACTIVE

#: With what the labels of the apps of this package begin.
LABEL_PREFIX = "notifications_"
#: Active jobs whose tasks are looked up, the oldest. Things that a message names of each kind.
MAX_JOBS_READ, MAX_NAMED = 100_000, 5


def check_missing_apps() -> Finding:
    """Check that no app has tables, queued jobs or open waits in the database and is not installed."""
    tables, tasks, waits = find_tables(), find_unknown_tasks(), find_unknown_waits()
    figures = {"tables": tables, "tasks": tasks, "waits": waits}
    problems = []
    if tables:
        problems.append(f"Tables of apps that are not installed: {_name(tables)}.")
    if tasks:
        problems.append(f"Jobs wait for tasks that cannot be imported: {_name(_counted(tasks))}.")
    if waits:
        problems.append(f"Jobs wait for what no installed app ends: {_name(_counted(waits))}.")
    if problems:
        remedy = (
            "Add the apps to INSTALLED_APPS again, or take them out as the documentation says: 'Take out an "
            "optional app'."
        )
        return Finding("apps", WARNING, " ".join(problems), remedy, figures)
    message = "All apps that have tables, queued jobs or open waits are installed."
    return Finding("apps", OK, message, figures=figures)


def find_tables() -> list[str]:
    """Return the tables of those apps of this package that have migrated the database and are not installed."""
    db = connection()
    installed = {config.label for config in apps.get_app_configs()}
    missing = {
        label
        for label, _ in MigrationRecorder(db).applied_migrations()
        if label.startswith(LABEL_PREFIX) and label not in installed
    }
    names = db.introspection.table_names() if missing else []
    return sorted(name for name in names if any(name.startswith(f"{label}_") for label in missing))


def find_unknown_tasks() -> dict[str, int]:
    """Return how many active jobs there are of each task that cannot be imported here, by its path."""
    rows = Job.objects.using(database()).filter(state__in=ACTIVE).exclude(executor=OBSERVED)
    oldest = rows.order_by("id").values("pk")[:MAX_JOBS_READ]
    counts = rows.filter(pk__in=oldest).order_by("task_path").values_list("task_path").annotate(Count("pk"))
    return {path: count for path, count in counts if not _is_known(path)}


def find_unknown_waits() -> dict[str, int]:
    """Return how many open waits there are of each kind that no installed app has."""
    rows = Wait.objects.using(database()).filter(ended_at=None).exclude(kind__in=list(hooks.wait_kinds))
    return dict(Counter(rows.order_by("kind").values_list("kind", flat=True)[:MAX_JOBS_READ]))


def _is_known(path: str) -> bool:
    try:
        find_task(path)
    except ImportError:
        return any(hook(path) for hook in hooks.policy_at)
    return True


def _counted(counts: dict[str, int]) -> list[str]:
    return [f"{name} ({count})" for name, count in counts.items()]


def _name(names: list[Any]) -> str:
    others = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{others}"

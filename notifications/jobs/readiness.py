"""Whether this deployment can work: the database answers, the migrations are applied, and a worker is alive."""

from __future__ import annotations

from enum import StrEnum

from django.db import DatabaseError, InterfaceError
from django.db.migrations.executor import MigrationExecutor

from notifications.compat import task_backends
from notifications.db.transactions import connection
from notifications.jobs.claiming.stranded import claiming_workers
from notifications.jobs.tasks import has_job_tasks
from notifications.jobs.transitions.guards import database_now


class Missing(StrEnum):
    """What is missing for a deployment to be ready."""

    DATABASE = "database"
    MIGRATIONS = "migrations"
    WORKER = "worker"
    SETTINGS = "settings"


def find_missing() -> tuple[Missing, str] | None:
    """Return what is missing first, with the reason for the log; None if the deployment is ready.

    It reads a few rows only, whatever is stored.
    """
    try:
        if pending := pending_migrations():
            return Missing.MIGRATIONS, f"not applied: {', '.join(pending)}"
        if needs_worker() and not claiming_workers().filter(lease_until__gte=database_now()).exists():
            return Missing.WORKER, "no worker, and no process of an engine, is alive"
    except (DatabaseError, InterfaceError) as exc:
        return Missing.DATABASE, " ".join(str(exc).split())[:300] or type(exc).__name__
    return None


def pending_migrations() -> list[str]:
    """Return the migrations of this app, and of those that it depends on, that are not applied."""
    executor = MigrationExecutor(connection())
    leaves = [leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] == "notifications"]
    return [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(leaves)]


def needs_worker() -> bool:
    """Return whether the project enqueues jobs at all: one of its backends in ``TASKS`` is this app's."""
    return any(has_job_tasks(task_backends[alias]) for alias in task_backends.settings)

"""Whether this deployment can work: the database answers, the migrations are applied, and a worker is alive."""

from __future__ import annotations

from enum import StrEnum

from django.db import DatabaseError, InterfaceError
from django.db.migrations.executor import MigrationExecutor

from notifications.compat import task_backends
from notifications.db.clock import database_now
from notifications.db.transactions import connection
from notifications.engines import configured_engines
from notifications.jobs.claiming.lanes import has_engine
from notifications.jobs.declaring.tasks import has_job_tasks
from notifications.operations import waiting_for_engines as waiting
from notifications.operations.unserved_queues import claiming_workers


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
        if needs_worker() and (reason := _find_missing_worker()):
            return Missing.WORKER, reason
    except (DatabaseError, InterfaceError) as exc:
        return Missing.DATABASE, " ".join(str(exc).split())[:300] or type(exc).__name__
    return None


def _find_missing_worker() -> str:
    """Return why jobs do not run, "" if they do or that is not known."""
    now = database_now()
    if claiming_workers().filter(lease_until__gte=now).exists():
        return ""
    if builtin_aliases():
        return "no worker, and no process of an engine, is alive"
    for engine in configured_engines().values():
        if waiting.has_processes(engine, now) is False:
            return f"no process of {engine.label} is alive"
    return "jobs wait, and no process of an engine takes them" if waiting.unserved_jobs().exists() else ""


def worker_advice() -> str:
    """Return one sentence on how to start what runs jobs."""
    if builtin_aliases():
        return "Start one: manage.py run_jobs, or set EMBEDDED_WORKER and serve the site by ASGI."
    return " ".join(engine.start_advice() for engine in configured_engines().values())


def builtin_aliases() -> list[str]:
    """Return the backends of ``TASKS`` whose jobs the built-in worker runs."""
    return [
        alias
        for alias in task_backends.settings
        if has_job_tasks(task_backends[alias]) and not has_engine(alias)
    ]


def pending_migrations() -> list[str]:
    """Return the migrations of this app, and of those that it depends on, that are not applied."""
    executor = MigrationExecutor(connection())
    leaves = [leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] == "notifications"]
    return [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(leaves)]


def needs_worker() -> bool:
    """Return whether the project enqueues jobs at all: one of its backends in ``TASKS`` is this app's."""
    return any(has_job_tasks(task_backends[alias]) for alias in task_backends.settings)

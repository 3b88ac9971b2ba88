"""Whether this deployment can work: the database takes writes, the migrations are applied, and a worker is alive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.db.models import Exists, OuterRef, Q

from notifications import times
from notifications.compat import task_backends
from notifications.db import missing_tables
from notifications.db.clock import database_now, is_lease_valid
from notifications.db.transactions import connection, database, dialect, try_write
from notifications.db.unavailable import is_query_error
from notifications.extension import Finding, hooks
from notifications.extension.installed import list_apps
from notifications.jobs.claiming.unserved import claiming_workers
from notifications.jobs.declaring.tasks import has_engine, has_job_tasks
from notifications.models import Attempt, Job, Notification, Wait
from notifications.streams.snoozing import MAX_SNOOZE

#: Rows of a kind that wait for a wrong time and are read.
MAX_WRONG_TIMES = 100


class Missing(StrEnum):
    """What is missing for a deployment to be ready."""

    DATABASE = "database"
    MIGRATIONS = "migrations"
    WORKER = "worker"
    SETTINGS = "settings"


def find_missing() -> Finding | None:
    """Return what is missing first, None if the deployment is ready: ``missing`` of its facts says what.

    It reads a few rows only, whatever is stored, and tries a write.
    """
    try:
        if pending := pending_migrations():
            reason = f"not applied: {', '.join(pending)}"
            return _not_ready(Missing.MIGRATIONS, reason, missing_tables.describe_remedy())
        dialect().try_write(try_write)
        if needs_worker() and (reason := _find_missing_worker()):
            return _not_ready(Missing.WORKER, reason, worker_advice())
    except Exception as exc:  # a wrong TASKS or NOTIFICATIONS may raise anything
        if is_query_error(exc):
            reason = " ".join(str(exc).split())[:300] or type(exc).__name__
            remedy = "Check DATABASES, and whether the database server runs and takes writes."
            return _not_ready(Missing.DATABASE, reason, remedy)
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        remedy = "Correct TASKS or NOTIFICATIONS, then run manage.py check."
        return _not_ready(Missing.SETTINGS, reason, remedy)
    return None


def _not_ready(missing: Missing, reason: str, remedy: str) -> Finding:
    message = f"Not ready because of the {missing}: {reason}."
    return Finding(facts={"missing": missing}, msg=message, hint=remedy)


def _find_missing_worker() -> str:
    """Return why jobs do not run, "" if they do or that is not known."""
    now = database_now()
    if claiming_workers().filter(is_lease_valid(now), request="").exists():
        return ""
    if builtin_aliases():
        return "no worker, and no process of an engine, is alive"
    return hooks.dispatch.find_missing_process()


def worker_advice() -> str:
    """Return one sentence on how to start what runs jobs."""
    if builtin_aliases():
        return (
            "Start one: manage.py run_jobs. Or have one in each server: set EMBEDDED_WORKER, and call "
            "get_asgi_application() of notifications.asgi in asgi.py, not that of Django."
        )
    return hooks.dispatch.start_advice()


def builtin_aliases() -> list[str]:
    """Return the backends of ``TASKS`` whose jobs the built-in worker runs."""
    return [
        alias
        for alias in task_backends.settings
        if has_job_tasks(task_backends[alias]) and not has_engine(alias)
    ]


def pending_migrations() -> list[str]:
    """Return the migrations of this app and its extensions, and of those that it depends on, that are not applied."""
    # Each start would import it.
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection())
    labels = {config.label for config in list_apps()}
    leaves = [leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] in labels]
    return [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(leaves)]


def missing_indexes() -> set[str]:
    """Return the names of indexes that are missing, or that PostgreSQL has not finished building."""
    models = [model for config in list_apps() for model in config.get_models()]
    with connection().cursor() as cursor:
        cursor.execute(dialect().index_names())
        return {index.name for model in models for index in model._meta.indexes} - {
            name for (name,) in cursor.fetchall()
        }


def clock_skew_seconds() -> float:
    """Return by how much the database's clock, which leases use, is ahead of this machine's."""
    return (database_now() - datetime.now(UTC)).total_seconds()


def find_wrong_times() -> Iterator[str]:
    """Yield the rows that wait because a clock was fast when they were stored, at most ``MAX_WRONG_TIMES`` of a kind.

    They were made, claimed or snoozed in the future, and what they wait for comes as much later as the clock was fast.
    """
    now = database_now()
    latest = times.latest_possible(now)
    ended = Attempt.objects.filter(job=OuterRef("pk"), number=OuterRef("attempt"), ended_at__gt=latest)
    is_early = Q(created_at__gt=latest) | Q(started_at__gt=latest) | Q(Exists(ended))
    found: tuple[tuple[Any, str, Q], ...] = (
        (Job, "run_after", is_early & Q(due_at__gt=latest, state="queued")),
        (Wait, "created_at", Q(created_at__gt=latest, ended_at=None, kind__in=list(hooks.wait_kinds))),
        (Notification, "snoozed_until", Q(snoozed_until__gt=times.latest_possible(now, MAX_SNOOZE))),
    )
    for model, field, condition in found:
        # In any order: for that of the keys SQLite would read all jobs.
        for row in model.objects.using(database()).filter(condition).order_by()[:MAX_WRONG_TIMES]:
            yield f"{model._meta.verbose_name} {row.pk}: {field} is {getattr(row, field):%Y-%m-%d %H:%M:%S} UTC"


def needs_worker() -> bool:
    """Return whether the project enqueues jobs at all: one of its backends in ``TASKS`` is this app's."""
    return any(has_job_tasks(task_backends[alias]) for alias in task_backends.settings)

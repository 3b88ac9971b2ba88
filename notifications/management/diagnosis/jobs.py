"""Checks of jobs that do not go on, of duties, and of apps that are not installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Info, Warning
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count
from django.utils.translation import gettext_lazy, ngettext

from notifications.compat import task_backends
from notifications.db.clock import database_now, is_lease_over
from notifications.db.transactions import connection, database
from notifications.extension import Finding, hooks
from notifications.jobs import calling_owed
from notifications.jobs.claiming.backlog import QueueDepth, queue_depths
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.declaring.tasks import stores_jobs
from notifications.jobs.results import find_task
from notifications.management.diagnosis.checking import CoreCheck, Examination, add_check, register
from notifications.models import Job, Wait, Worker
from notifications.states import ACTIVE
from notifications.upkeep import DutyAge, read_ages

#: The tables of django-tasks-db, and of the package from which it was taken.
OTHER_TASK_TABLES = {"django_tasks_db_dbtaskresult", "django_tasks_database_dbtaskresult"}
#: Queues that a message names at most.
MAX_QUEUES_NAMED = 10
#: With what the labels of the apps of this package begin.
LABEL_PREFIX = "notifications_"
#: Active jobs whose tasks are looked up, the oldest. Things that a message names of each kind.
MAX_JOBS_READ, MAX_NAMED = 100_000, 5


@register("processes", "queues")
def check_paused_queues(examination: Examination) -> Iterator[CheckMessage]:
    """Check that no jobs wait in paused queues."""
    paused = sorted(paused_queues())
    found = queue_depths(is_paused=True)
    counts = {depth.name: depth.total for depth in found.queues}
    figures = {"paused": paused, "waiting": counts}
    if counts:
        named = ", ".join(map(_named, found.queues[:MAX_QUEUES_NAMED]))
        others = " and others" if found.is_cut or len(counts) > MAX_QUEUES_NAMED else ""
        yield Warning(
            f"Jobs wait in paused queues: {named}{others}.",
            hint=f"Start them again with manage.py notifications jobs resume {next(iter(counts))}.",
            obj=figures,
        )
    else:
        message = f"Paused, without jobs: {', '.join(paused)}." if paused else "No queue is paused."
        yield Info(message, obj=figures)


def _named(depth: QueueDepth) -> str:
    at_least = "at least " if depth.is_capped or depth.is_delayed_capped else ""
    return f"{depth.name} ({at_least}{depth.total} jobs)"


@register("processes", "shares", "No share holds over half of a queue.")
def check_shares(examination: Examination) -> Iterator[CheckMessage]:
    """Check whether one share holds over half of the jobs that wait in a queue, for over a minute."""
    if large := examination.depths.find_large_shares():
        named = "; ".join(f"{each.share} has {each.jobs} of {each.total} in {each.queue}" for each in large)
        yield Warning(
            f"One share holds over half of the jobs that wait in a queue: {named}.",
            hint="The jobs of others begin in turn with these. If it should end sooner, start more workers, "
            "or cancel its jobs: manage.py notifications jobs cancel --help.",
            obj={"shares": [share._asdict() for share in large]},
        )


@register("processes", "lost jobs", "No job is left in a lost worker.")
def check_lost_jobs(examination: Examination) -> Iterator[CheckMessage]:
    """Check that no job is running in a worker whose lease has ended, because no live worker has taken it over."""
    latest = database_now() - timedelta(seconds=MIN_WAIT_SECONDS)
    workers = Worker.objects.using(database()).filter(is_lease_over(latest))
    lost = list(workers.values_list("id", flat=True)[:1000])
    running = Job.objects.using(database()).filter(state=Job.State.RUNNING, worker__in=lost)
    if lost and (count := running.count()):
        yield Error(
            f"{count} jobs are running according to their rows, but the leases of their workers have ended.",
            hint="Start a worker, which runs them again: manage.py run_jobs.",
            obj={"workers": len(lost), "jobs": count},
        )


class FailingHooks(CoreCheck):
    """Calls of hooks of extensions are owed that have failed again, or whose app is not installed."""

    id, label = "hook", gettext_lazy("Extension fails")
    ok = "No call of a hook of an extension is owed."
    remedy = (
        "Read the log after 'Hook failed', and repair the app, or install it again: then they are called. To drop "
        "these calls, delete the rows of that extension from notifications_owedcall."
    )

    def find(self, examination: Examination) -> Iterator[Finding]:
        for hook, count in sorted(calling_owed.count_owed_calls().items()):
            yield Finding(hook, {"count": count})

    def describe(self, facts: dict[str, Any]) -> str:
        text = ngettext(
            "%(count)d call fails, and is tried again until the hook works.",
            "%(count)d calls fail, and are tried again until the hook works.",
            facts["count"],
        )
        return text % {"count": facts["count"]}


add_check(FailingHooks(), __name__)


@register("processes", "old tasks", "No task waits in the tables of django-tasks-db.")
def check_left_tasks(examination: Examination) -> Iterator[CheckMessage]:
    """Check that no task waits in django-tasks-db which the project has enqueued before it had this app's backend.

    Its worker runs none any more whose backend in ``TASKS`` is not its own.
    """
    db = connection()
    backends = {alias: params.get("BACKEND", "") for alias, params in task_backends.settings.items()}
    counts: dict[str, int] = {}
    for table in sorted(OTHER_TASK_TABLES.intersection(db.introspection.table_names())):
        with db.cursor() as cursor:
            cursor.execute(
                f"SELECT backend_name, count(*) FROM {table} WHERE status = 'READY' GROUP BY backend_name"
            )
            rows = cursor.fetchall()
        # An alias of Django's Tasks names one backend, so a queue of another one cannot be read.
        counts |= {
            f"{table} ({name})": count for name, count in rows if name not in backends or stores_jobs(name)
        }
    if counts:
        named = ", ".join(f"{count} in {place}" for place, count in counts.items())
        yield Warning(
            f"Tasks wait that no worker runs, because they were enqueued for another backend: {named}.",
            hint="Run manage.py db_worker --batch --queue-name '*' with the former TASKS, in settings of their own.",
            obj={"waiting": counts},
        )


@register("processes", "duties")
def check_duties(examination: Examination) -> Iterator[CheckMessage]:
    """Check that processes do the duties that one does for all, and list them with when each was last done."""
    ages = read_ages()
    figures = {age.name: None if age.seconds is None else round(age.seconds, 1) for age in ages}
    if overdue := [_describe_age(age) for age in ages if age.is_overdue]:
        yield Error(
            f"No process did in time: {'; '.join(overdue)}.",
            hint="Start a worker (manage.py run_jobs, or a Celery worker), or serve the site by ASGI; see its log.",
            obj=figures,
        )
        return
    done = "; ".join(_describe_age(age) for age in ages if age.seconds is not None)
    yield Info(f"{done}." if done else "No process has begun to do them yet.", obj=figures)


def _describe_age(age: DutyAge) -> str:
    if age.seconds is None:
        return f"{age.name} never"
    if age.seconds < 0:
        return f"{age.name} at a time that lies ahead"
    return f"{age.name} {age.seconds:.0f} s ago (every {age.every:.0f} s)"


@register("processes", "apps", "All apps that have tables, queued jobs or open waits are installed.")
def check_missing_apps(examination: Examination) -> Iterator[CheckMessage]:
    """Check that no app has tables, queued jobs or open waits in the database and is not installed."""
    tables, tasks, waits = find_tables(), find_unknown_tasks(), find_unknown_waits()
    problems = []
    if tables:
        problems.append(f"Tables of apps that are not installed: {_name(tables)}.")
    if tasks:
        problems.append(f"Jobs wait for tasks that cannot be imported: {_name(tasks)}.")
    if waits:
        problems.append(f"Jobs wait for what no installed app ends: {_name(waits)}.")
    if problems:
        yield Warning(
            " ".join(problems),
            hint="Add the apps to INSTALLED_APPS again, or take them out as the documentation says: 'Take out an "
            "optional app'.",
            obj={"tables": tables, "tasks": tasks, "waits": waits},
        )


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
    rows = Job.objects.using(database()).filter(state__in=ACTIVE)
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
        return False
    return True


def _name(found: list[str] | dict[str, int]) -> str:
    names = found if isinstance(found, list) else [f"{name} ({count})" for name, count in found.items()]
    others = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{others}"

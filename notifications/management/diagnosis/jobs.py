"""Checks of jobs that do not go on, and of duties."""

from __future__ import annotations

from datetime import timedelta

from notifications.compat import task_backends
from notifications.db.clock import database_now, is_lease_over
from notifications.db.transactions import connection, database
from notifications.jobs.claiming.backlog import QueueDepth, queue_depths, read_large_shares
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.declaring.tasks import stores_jobs
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding
from notifications.models import Job, Worker
from notifications.upkeep import DutyAge, read_ages
from notifications.worker.held_outcomes import read_failing_hooks

#: The tables of django-tasks-db, and of the package from which it was taken.
OTHER_TASK_TABLES = {"django_tasks_db_dbtaskresult", "django_tasks_database_dbtaskresult"}
#: Queues that a message names at most.
MAX_QUEUES_NAMED = 10


def check_paused_queues() -> Finding:
    """Check that no jobs wait in paused queues."""
    paused = sorted(paused_queues())
    found = queue_depths(is_paused=True)
    counts = {depth.name: depth.due + depth.delayed for depth in found.queues}
    figures = {"paused": paused, "waiting": counts}
    if counts:
        named = ", ".join(map(_named, found.queues[:MAX_QUEUES_NAMED]))
        others = " and others" if found.is_cut or len(counts) > MAX_QUEUES_NAMED else ""
        return Finding(
            "queues",
            WARNING,
            f"Jobs wait in paused queues: {named}{others}.",
            f"Start them again with manage.py notifications jobs resume {next(iter(counts))}.",
            figures,
        )
    message = f"Paused, without jobs: {', '.join(paused)}." if paused else "No queue is paused."
    return Finding("queues", OK, message, figures=figures)


def _named(depth: QueueDepth) -> str:
    at_least = "at least " if depth.is_capped or depth.is_delayed_capped else ""
    return f"{depth.name} ({at_least}{depth.due + depth.delayed} jobs)"


def check_shares() -> Finding:
    """Check whether one share holds over half of the jobs that wait in a queue, for over a minute."""
    if large := read_large_shares():
        named = "; ".join(
            f"{share.share} has {share.jobs} of {share.total} in {share.queue}" for share in large
        )
        return Finding(
            "shares",
            WARNING,
            f"One share holds over half of the jobs that wait in a queue: {named}.",
            "The jobs of others begin in turn with these. If it should end sooner, start more workers, "
            "or cancel its jobs: manage.py notifications jobs cancel --help.",
            {"shares": [share._asdict() for share in large]},
        )
    return Finding("shares", OK, "No share holds over half of a queue.")


def check_lost_jobs() -> Finding:
    """Check that no job is running in a worker whose lease has ended, because no live worker has taken it over."""
    latest = database_now() - timedelta(seconds=MIN_WAIT_SECONDS)
    lost = list(
        Worker.objects.using(database()).filter(is_lease_over(latest)).values_list("id", flat=True)[:1000]
    )
    count = (
        Job.objects.using(database()).filter(state=Job.State.RUNNING, worker__in=lost).count() if lost else 0
    )
    figures = {"workers": len(lost), "jobs": count}
    if count:
        return Finding(
            "lost jobs",
            ERROR,
            f"{count} jobs are running according to their rows, but the leases of their workers have ended.",
            "Start a worker, which runs them again: manage.py run_jobs.",
            figures,
        )
    return Finding("lost jobs", OK, "No job is left in a lost worker.", figures=figures)


def check_hooks() -> Finding:
    """Check that no outcome of a job waits for a hook of an extension that fails."""
    counts = dict(read_failing_hooks(database_now()))
    if counts:
        named = ", ".join(f"{hook} (outcomes that wait: {count})" for hook, count in sorted(counts.items()))
        return Finding(
            "hooks",
            ERROR,
            f"Hooks of extensions fail, and jobs that are done are not recorded: {named}.",
            "Read the log of the workers, after 'Hook failed', and repair or remove that app. Do not stop the workers "
            "before: what they cannot record is run again.",
            {"waiting": counts},
        )
    return Finding("hooks", OK, "No outcome waits for a hook of an extension.", figures={"waiting": {}})


def check_left_tasks() -> Finding:
    """Check that no task waits in django-tasks-db which the project has enqueued before it had this app's backend.

    Its worker runs none any more whose backend in ``TASKS`` is not its own.
    """
    db = connection()
    tables = OTHER_TASK_TABLES.intersection(db.introspection.table_names())
    backends = {alias: params.get("BACKEND", "") for alias, params in task_backends.settings.items()}
    counts: dict[str, int] = {}
    for table in sorted(tables):
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
        return Finding(
            "old tasks",
            WARNING,
            f"Tasks wait that no worker runs, because they were enqueued for another backend: {named}.",
            "Run manage.py db_worker --batch --queue-name '*' with the former TASKS, in settings of their own.",
            {"waiting": counts},
        )
    return Finding("old tasks", OK, "No task waits in the tables of django-tasks-db.")


def check_duties() -> Finding:
    """Check that processes do the duties that one does for all, and list them with when each was last done."""
    ages = read_ages()
    figures = {age.name: None if age.seconds is None else round(age.seconds, 1) for age in ages}
    overdue = [_describe_age(age) for age in ages if age.is_overdue]
    if overdue:
        return Finding(
            "duties",
            ERROR,
            f"No process did in time: {'; '.join(overdue)}.",
            "Start a worker (manage.py run_jobs, or a Celery worker), or serve the site by ASGI; see its log.",
            figures,
        )
    done = [_describe_age(age) for age in ages if age.seconds is not None]
    message = f"{'; '.join(done)}." if done else "No process has begun to do them yet."
    return Finding("duties", OK, message, figures=figures)


def _describe_age(age: DutyAge) -> str:
    if age.seconds is None:
        return f"{age.name} never"
    if age.seconds < 0:
        return f"{age.name} at a time that lies ahead"
    return f"{age.name} {age.seconds:.0f} s ago (every {age.every:.0f} s)"

"""Checks of jobs that do not go on, of observed tasks of Celery that wait, and of alerts and duties."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import Coalesce, Greatest

from notifications import times
from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.db.unavailable import QUERY_ERRORS
from notifications.jobs.claiming.executors import EAGER_QUEUE
from notifications.jobs.claiming.queues import paused_queues
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding
from notifications.models import Job, Worker
from notifications.operations.alerts.conditions import read_limits
from notifications.operations.alerts.episodes import open_alerts
from notifications.operations.depths import QueueDepth, queue_depths
from notifications.operations.unserved_queues import MIN_WAIT_SECONDS
from notifications.upkeep import DutyAge, read_ages

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
            check="queues",
            state=WARNING,
            message=f"Jobs wait in paused queues: {named}{others}.",
            remedy=f"Start them again with manage.py notifications jobs resume {next(iter(counts))}.",
            figures=figures,
        )
    message = f"Paused, without jobs: {', '.join(paused)}." if paused else "No queue is paused."
    return Finding(check="queues", state=OK, message=message, figures=figures)


def _named(depth: QueueDepth) -> str:
    at_least = "at least " if depth.is_capped or depth.is_delayed_capped else ""
    return f"{depth.name} ({at_least}{depth.due + depth.delayed} jobs)"


def check_lost_jobs() -> Finding:
    """Check that no job is running in a worker whose lease has ended, because no live worker has taken it over."""
    latest = database_now() - timedelta(seconds=MIN_WAIT_SECONDS)
    lost = list(
        Worker.objects.using(database()).filter(lease_until__lt=latest).values_list("id", flat=True)[:1000]
    )
    count = (
        Job.objects.using(database()).filter(state=Job.State.RUNNING, worker__in=lost).count() if lost else 0
    )
    figures = {"workers": len(lost), "jobs": count}
    if count:
        return Finding(
            check="lost jobs",
            state=ERROR,
            message=f"{count} jobs are running according to their rows, but the leases of their workers have ended.",
            remedy="Start a worker, which runs them again: manage.py run_jobs.",
            figures=figures,
        )
    return Finding(check="lost jobs", state=OK, message="No job is left in a lost worker.", figures=figures)


#: Seconds for which an observed task may wait although its queue is consumed.
OLD_TASK_SECONDS = 3600.0
#: Before each queue that a worker of Celery consumes, in its row.
QUEUE_PREFIX = "celery:"


def has_observed_tasks() -> bool:
    """Return whether there are live workers that observe tasks, or tasks that wait for one."""
    with suppress(*QUERY_ERRORS):  # which the other checks report
        return live_observers().exists() or bool(_due_tasks())
    return False


def check_observed_tasks() -> Finding:
    """Check that live workers of Celery consume the queues of observed tasks that wait."""
    live = list(live_observers().values_list("queues", flat=True))
    queued = _due_tasks()
    count = sum(queue["count"] for queue in queued)
    oldest = max((_seconds_since(queue["since"]) for queue in queued), default=0.0)
    consumed = {name.removeprefix(QUEUE_PREFIX) for queues in live for name in queues.split(",")}
    absent = [
        queue["queue_name"]
        for queue in queued
        if queue["queue_name"] not in consumed and _seconds_since(queue["since"]) > MIN_WAIT_SECONDS
    ]
    figures = {
        "workers": len(live),
        "due": count,
        "oldest_waits_seconds": round(oldest, 1),
        "unconsumed_queues": absent if live else [queue["queue_name"] for queue in queued],
    }
    waiting = f"observed tasks that wait: {count}" + (f", the oldest for {oldest:.0f} s." if count else ".")
    if not live:
        return Finding(
            check="celery",
            state=ERROR if oldest > MIN_WAIT_SECONDS else WARNING,
            message=f"No worker of Celery that observes tasks is alive; {waiting}",
            remedy="Start one: celery -A PROJECT worker. Its celery.py must import notifications.contrib.celery.",
            figures=figures,
        )
    if absent:
        return Finding(
            check="celery",
            state=WARNING,
            message=f"No live worker consumes a queue named {', '.join(absent[:MAX_QUEUES_NAMED])}; {waiting}",
            remedy=f"Start one: celery -A PROJECT worker -Q {absent[0]}. With routing keys that are not the names of "
            "queues, tasks may only wait behind others.",
            figures=figures,
        )
    if oldest > OLD_TASK_SECONDS:
        return Finding(
            check="celery",
            state=WARNING,
            message=f"Workers that observe tasks: {len(live)}; {waiting}",
            remedy="Start more workers. If the broker has lost the message, publish the task again, and declare "
            "start_within for such tasks.",
            figures=figures,
        )
    return Finding(
        check="celery",
        state=OK,
        message=f"Workers that observe tasks: {len(live)}; {waiting}",
        figures=figures,
    )


def live_observers() -> Any:
    """Return a queryset of the live workers that observe tasks of Celery."""
    return Worker.objects.using(database()).filter(
        lease_until__gte=database_now(), queues__startswith=QUEUE_PREFIX
    )


def _due_tasks() -> list[dict[str, Any]]:
    """Return the queues of queued tasks that may start now: name, count, and since when the first waits."""
    tasks = Job.objects.using(database()).filter(state=Job.State.QUEUED, executor=Job.Executor.OBSERVED)
    due = tasks.filter(Q(run_after=None) | Q(run_after__lte=database_now())).exclude(queue_name=EAGER_QUEUE)
    since = Min(Greatest("queued_at", Coalesce("run_after", "queued_at")))
    return list(due.order_by("queue_name").values("queue_name").annotate(count=Count("id"), since=since))


def _seconds_since(moment: Any) -> float:
    return max(0.0, (times.now() - moment).total_seconds())


def check_alerts() -> Finding:
    """Check that no alert is open, and that alerts are evaluated."""
    interval = read_limits().interval
    if interval is None:
        return Finding(check="alerts", state=OK, message="Off: NOTIFICATIONS['ALERTS'] has no interval.")
    alerts = open_alerts()
    figures = {
        "open": [{"kind": alert.kind, "subject": alert.subject, "detail": alert.detail} for alert in alerts]
    }
    if alerts:
        return Finding(
            check="alerts",
            state=ERROR,
            message=" ".join(f"{alert}. {alert.detail}" for alert in alerts[:5]),
            remedy="See the overview in the admin. Limits are in NOTIFICATIONS['ALERTS'].",
            figures=figures,
        )
    return Finding(check="alerts", state=OK, message="No alert is open.", figures=figures)


def check_duties() -> Finding:
    """Check that processes do the duties that one does for all, and list them with when each was last done."""
    ages = read_ages()
    figures = {age.name: None if age.seconds is None else round(age.seconds, 1) for age in ages}
    overdue = [_describe_age(age) for age in ages if age.is_overdue]
    if overdue:
        return Finding(
            check="duties",
            state=ERROR,
            message=f"No process did in time: {'; '.join(overdue)}.",
            remedy="Start a worker (manage.py run_jobs, or a Celery worker), or serve the site by ASGI; see its log.",
            figures=figures,
        )
    done = [_describe_age(age) for age in ages if age.seconds is not None]
    message = f"{'; '.join(done)}." if done else "No process has begun to do them yet."
    return Finding(check="duties", state=OK, message=message, figures=figures)


def _describe_age(age: DutyAge) -> str:
    if age.seconds is None:
        return f"{age.name} never"
    if age.seconds < 0:
        return f"{age.name} at a time that lies ahead"
    return f"{age.name} {age.seconds:.0f} s ago (every {age.every:.0f} s)"

"""Check of observed tasks of Celery that wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Warning
from django.db.models import Count, Min, Q
from django.db.models.functions import Coalesce, Greatest

from notifications import times
from notifications.contrib.celery import silence
from notifications.db import database, database_now, is_lease_valid
from notifications.jobs.claiming.executors import EAGER_QUEUE
from notifications.management import MIN_WAIT_SECONDS, register
from notifications.models import Job, Worker

#: Seconds for which an observed task may wait although its queue is consumed.
OLD_TASK_SECONDS = 3600.0
#: What stands before each queue in the row of a worker that observes tasks.
QUEUE_PREFIX = "celery:"
#: Queues that a finding names at most.
MAX_QUEUES_NAMED = 10


@register("processes", "celery")
def check_observed_tasks(**options: Any) -> Iterator[CheckMessage]:
    """Check whether live workers of Celery consume the queues of observed tasks that wait."""
    live = list(_live_workers().values_list("queues", flat=True))
    queued = _due_tasks()
    if not live and not queued:
        return
    silent = [found for queue in queued if (found := _find_silent(queue))]
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
        "silent": sum(queue["count"] for queue in silent),
    }
    waiting = f"observed tasks that wait: {count}" + (f", the oldest for {oldest:.0f} s." if count else ".")
    working = f"Workers that observe tasks: {len(live)}; {waiting}"
    if not live:
        kind = Error if oldest > MIN_WAIT_SECONDS else Warning
        message = f"No worker of Celery that observes tasks is alive; {waiting}"
        yield kind(message, hint="Start one: celery -A PROJECT worker.", obj=figures)
    elif absent:
        yield Warning(
            f"No live worker consumes a queue named {', '.join(absent[:MAX_QUEUES_NAMED])}; {waiting}",
            hint=f"Start one: celery -A PROJECT worker -Q {absent[0]}. With routing keys that are not the names of "
            "queues, tasks may only wait behind others.",
            obj=figures,
        )
    elif silent:
        yield Warning(
            f"No word from Celery of observed tasks in the queue {silent[0]['queue_name']}: "
            f"{silent[0]['count']}, the oldest for {_seconds_since(silent[0]['since']):.0f} s, and no other task of it "
            f"has started since. {working}",
            hint="Look whether the broker has their messages. If it has lost them, publish the tasks again, and "
            "declare start_within for such tasks.",
            obj=figures,
        )
    elif oldest > OLD_TASK_SECONDS:
        yield Warning(
            working,
            hint="Start more workers. If the broker has lost the message, publish the task again, and declare "
            "start_within for such tasks.",
            obj=figures,
        )
    else:
        yield Info(working, obj=figures)


def _due_tasks(**conditions: Any) -> list[dict[str, Any]]:
    """Return the queues of queued tasks that may start now: name, count, and since when the first waits."""
    tasks = Job.objects.using(database()).filter(state=Job.State.QUEUED, executor=Job.Executor.OBSERVED)
    due = tasks.filter(Q(run_after=None) | Q(run_after__lte=database_now())).exclude(queue_name=EAGER_QUEUE)
    due = due.annotate(due_at=Greatest("queued_at", Coalesce("run_after", "queued_at"))).filter(**conditions)
    queues = due.order_by("queue_name").values("queue_name")
    return list(queues.annotate(count=Count("id"), since=Min("due_at")))


def _find_silent(queue: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tasks of a queue, as ``_due_tasks()`` does, that may be lost; None if there are none."""
    before = times.now() - silence.SILENT_AFTER
    if times.as_utc(queue["since"]) > before:
        return None
    conditions = {"queue_name": queue["queue_name"], "process_id": None, "due_at__lte": before}
    if last := silence.read_last_start(queue["queue_name"], queue["since"]):
        conditions["due_at__gt"] = last
    return next(iter(_due_tasks(**conditions)), None)


def _seconds_since(moment: Any) -> float:
    return max(0.0, (times.now() - moment).total_seconds())


def _live_workers() -> Any:
    """Return a queryset of the live workers of Celery that observe tasks."""
    rows = Worker.objects.using(database())
    return rows.filter(is_lease_valid(database_now()), queues__startswith=QUEUE_PREFIX)

"""Which jobs may be claimed now: queued, due, of no paused queue, and within their limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q

from notifications import bulk, streams
from notifications.jobs.limits import within
from notifications.jobs.queues import limits, paused
from notifications.jobs.rows import clock_clause, lock_clause, locked
from notifications.models import Job
from notifications.transactions import connection, database

#: Of the jobs for later so many that are due the longest are put in order by priority: an index has either order.
LATER = 1_000


def is_due(queues: Sequence[str] = ()) -> bool:
    """Whether there is something to claim: two look-ups in an index, no lock."""
    where, names = _free(queues)
    now, at = clock_clause()
    jobs = f"FROM notifications_job {where}"
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT EXISTS (SELECT 1 {jobs} AND run_after IS NULL) "
            f"OR (SELECT run_after {jobs} AND run_after <= {now} ORDER BY run_after LIMIT 1) IS NOT NULL",
            [*names, *names, at],
        )
        return bool(cursor.fetchone()[0])


def lock(now: datetime, limit: int, queues: Sequence[str], among: Q) -> list[Job]:
    """Lock, in a transaction, the jobs that may be claimed, at most ``limit``, and return them by priority and age."""

    def find(narrow: Callable[[Any], Any], limit: int) -> list[Job]:
        ready = narrow(_queued(queues).filter(among))
        jobs = bulk.read(locked(ready.filter(run_after__isnull=True).order_by("-priority", "id"))[:limit])
        later = ready.filter(run_after__lte=now).order_by("run_after", "id").values_list("id", flat=True)
        jobs += bulk.read(
            locked(ready.filter(id__in=list(later[:LATER])).order_by("-priority", "id"))[:limit]
        )
        return first(jobs, limit)

    jobs = find(lambda queued: queued, limit) if among else _first(now, limit, queues)
    if not is_any_limited(jobs):
        return jobs
    jobs, more = within(find, jobs, limits(), limit)
    if more:
        streams.ring((), queue=True)
    return jobs


def locking(limit: int, queues: Sequence[str]) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, that locks what is due on PostgreSQL as ``lock`` does without limits."""
    where, names = _free(queues)
    now, at = clock_clause()
    one = "SELECT id, priority, task_path, deadline, queue_name, concurrency_key FROM notifications_job"
    tail = f"ORDER BY priority DESC, id LIMIT {limit}{lock_clause()}"
    return (
        f"SELECT * FROM (SELECT * FROM ({one} {where} AND run_after IS NULL {tail}) ready "
        f"UNION ALL SELECT * FROM ({one} {_later(where, now)} {tail}) later) jobs "
        f"ORDER BY priority DESC, id LIMIT {limit}"
    ), [*names, *names, *names, at]


def first(jobs: Iterable[Job], limit: int) -> list[Job]:
    """Return these jobs by priority and age, at most ``limit``."""
    return sorted(jobs, key=lambda job: (-job.priority, job.id))[:limit]


def is_any_limited(jobs: Iterable[Job]) -> bool:
    queues = limits()
    return any(job.concurrency_key or job.queue_name in queues for job in jobs)


def _first(now: datetime, limit: int, queues: Sequence[str]) -> list[Job]:
    """Lock and return the jobs that are due, as far as no limit says otherwise."""
    where, names = _free(queues)
    tail = f"ORDER BY priority DESC, id LIMIT {limit}{lock_clause()}"
    at = connection().ops.adapt_datetimefield_value(now)
    jobs = bulk.select(Job, f"{where} AND run_after IS NULL {tail}", names)
    jobs += bulk.select(Job, f"{_later(where, '%s')} {tail}", [*names, *names, at])
    return first(jobs, limit)


def _later(where: str, now: str) -> str:
    """Return the condition for jobs for later that are due. Its parameters are those of ``where`` twice, and the time.

    That is there twice because of a row that somebody has just changed only the outer one is asked again.
    """
    due = f"SELECT id FROM notifications_job {where} AND run_after <= {now} ORDER BY run_after, id LIMIT {LATER}"
    # For a join PostgreSQL might read the whole table; in an array it looks up each id.
    among = f"= ANY(ARRAY({due}))" if connection().vendor == "postgresql" else f"IN ({due})"
    return f"{where} AND id {among}"


def _free(queues: Sequence[str]) -> tuple[str, list[str]]:
    """Return the condition for queued jobs of queues that are not paused, and its parameters. See ``_queued``."""
    where = (
        "WHERE state = 'queued' AND queue_name NOT IN "
        "(SELECT name FROM notifications_queue WHERE paused_at IS NOT NULL)"
    )
    if queues:
        where += f" AND queue_name IN ({', '.join(['%s'] * len(queues))})"
    return where, list(queues)


def _queued(queues: Sequence[str]) -> Any:
    queued = Job.objects.using(database()).filter(state=Job.State.QUEUED).exclude(queue_name__in=paused())
    return queued.filter(queue_name__in=queues) if queues else queued

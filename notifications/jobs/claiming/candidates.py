"""Find the jobs that may be claimed now: queued, due, in a queue that is not paused, within all limits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db.models import Q

from notifications import streams
from notifications.db import bulk
from notifications.db.bulk import lock_query
from notifications.db.transactions import connection, database
from notifications.jobs.claiming import claim_queries
from notifications.jobs.claiming.claim_queries import Query
from notifications.jobs.claiming.concurrency import RunningLimits, full_queues, select_within_limits
from notifications.jobs.claiming.executors import WORKER_EXECUTORS, Capacities
from notifications.jobs.claiming.queues import paused_queues, queue_limits
from notifications.models import Job

#: Seconds for which a job must have been due to be one that no process takes.
MIN_WAIT_SECONDS = 10.0


def claimable_queues(
    queues: Sequence[str] = (), executors: Collection[str] = WORKER_EXECUTORS
) -> dict[str, bool]:
    """Return the queues with jobs that may start, each with whether the first job of an executor has a concurrency key.

    It takes no lock. ``queues`` are those to look at, all if empty.
    """
    found = due_queues(queues, executors)
    limits = {name: limit for name, limit in queue_limits().items() if name in found}
    for name in full_queues(limits) if limits else ():
        del found[name]
    return found


def due_queues(queues: Sequence[str] = (), executors: Collection[str] = WORKER_EXECUTORS) -> dict[str, bool]:
    """Return the same as ``claimable_queues``, and queues that have reached their limit."""
    with connection().cursor() as cursor:
        cursor.execute(*claim_queries.due_queues(list(dict.fromkeys(queues)), executors))
        found: dict[str, bool] = {}
        for name, *keys in cursor:
            if keys != [None, None]:
                found[name] = found.get(name, False) or any(keys)
        return found


def lock_query_of_all_queues(limit: int, executors: Capacities) -> Query:
    """Return the query that locks the first jobs on PostgreSQL, or none if some jobs are held back.

    Jobs are held back by a paused queue or a queue with a limit. A due job with a ``run_after`` has the same effect.
    """
    return claim_queries.first_jobs_of_all_queues(limit, executors, queue_limits())


def lock_query_of_queues(limit: int, queues: Collection[str], executors: Capacities) -> Query:
    """Return the query that locks the first jobs of these queues on PostgreSQL."""
    return claim_queries.first_jobs_of_queues("id, concurrency_key", limit, queues, executors)


def lock_jobs(
    now: datetime,
    limit: int,
    queues: Collection[str],
    among: Q,
    executors: Capacities,
    limits: RunningLimits,
) -> list[Job]:
    """Lock, in a transaction, the jobs that may be claimed, at most ``limit``, and return them by priority and age.

    ``executors`` has how many jobs of each executor may be claimed, none of one that is left out. ``among`` is a
    condition that the jobs must meet. ``limits`` is new, and knows afterwards which jobs another claim kept from being
    taken.
    """

    def find(limits: RunningLimits) -> list[Job]:
        open_queues = [name for name in queues if ("queue", name) not in limits.closed]
        open_executors = {
            executor: most
            for executor, most in executors.items()
            if ("executor", executor) not in limits.closed
        }
        if among:
            return _lock_among(among, now, limit, open_queues, open_executors, limits)
        if not open_queues or not open_executors:
            return []
        with connection().cursor() as cursor:
            columns = ", ".join(field.column for field in Job._meta.concrete_fields)
            query = claim_queries.first_jobs_of_queues(
                columns,
                limit,
                open_queues,
                open_executors,
                limits.closed_keys(),
                limits.max_jobs_per_key,
            )
            cursor.execute(*query)
            return first_jobs(bulk.instances(Job, cursor.fetchall()), limit)

    jobs = find(limits)
    if not has_limited_jobs(jobs):
        return jobs
    jobs, may_have_more = select_within_limits(find, jobs, limits, limit)
    if may_have_more:
        streams.ring((), queue=True)
    return jobs


def first_jobs(jobs: Iterable[Job], limit: int) -> list[Job]:
    """Return these jobs by priority and age, at most ``limit``."""
    return sorted(jobs, key=lambda job: (-job.priority, job.id))[:limit]


def has_limited_jobs(jobs: Iterable[Job]) -> bool:
    """Return whether one of these jobs has a concurrency key or is in a queue with a limit."""
    limits = queue_limits()
    return any(job.concurrency_key or job.queue_name in limits for job in jobs)


def _lock_among(
    among: Q, now: datetime, limit: int, queues: Sequence[str], executors: Capacities, limits: RunningLimits
) -> list[Job]:
    # iexact matches none of the indexes of queued jobs: these are found by their ids and batches.
    queued = Job.objects.using(database()).filter(
        among, state__iexact=Job.State.QUEUED, queue_name__in=queues
    )
    queued = queued.exclude(queue_name__in=paused_queues()).exclude(concurrency_key__in=limits.closed_keys())
    jobs: list[Job] = []
    for executor, most in executors.items():
        of_executor = queued.filter(executor=executor)
        ready = of_executor.filter(run_after__isnull=True).order_by("-priority", "id")
        due_longest = of_executor.filter(run_after__lte=now).order_by("run_after", "id")
        due_ids = list(due_longest.values_list("id", flat=True)[: claim_queries.MAX_DELAYED_SORTED])
        delayed = of_executor.filter(id__in=due_ids).order_by("-priority", "id")
        locked = bulk.read(lock_query(ready)[:most]) + bulk.read(lock_query(delayed)[:most])
        jobs += first_jobs(locked, most)
    return first_jobs(jobs, limit)

"""Find the jobs of the app's own senders to claim: of whose user the fewest run first, then by age.

Receivers of users may answer slowly. By age alone, each place that is freed would go to the longest backlog. All that
is sent for a user by one executor has one concurrency key, of which the running jobs are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from notifications.db import bulk
from notifications.db.transactions import connection
from notifications.jobs.claiming import claim_queries, sender_queries
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.executors import EMAIL, SENDER, Capacities, kind_of
from notifications.jobs.claiming.sources import BackendQueue, Query
from notifications.jobs.declaring.own_tasks import MAX_PER_USER
from notifications.jobs.results import policy_at
from notifications.models import Job

#: How many places must be free for each job of a key that runs already, so that another one may begin. Of 200 places
#: for ``SENDER`` fifty slow keys take about 164, so that others find places free at any moment. Without it they would
#: take all, whose answers come at the same time: others would wait for them.
PLACES_PER_RUNNING_JOB = {SENDER: 12, EMAIL: 1}


class Candidate(NamedTuple):
    """What decides when a queued job is claimed. The id is as the database returns it."""

    id: Any
    executor: str
    priority: int
    concurrency_key: str
    task_path: str


S = TypeVar("S", Candidate, Job)


def find(queues: Collection[BackendQueue], free: Capacities, limit: int) -> list[Any]:
    """Return the ids of the jobs to claim, at most ``limit``, without a lock.

    ``free`` has how many jobs of each executor may be claimed.
    """
    jobs, running = _read(sender_queries.oldest_jobs(queues, free)), _read_running()
    backlogs = [executor for executor, most in free.items() if _is_of_few_keys(jobs, executor, most, running)]
    if backlogs:
        # Behind the oldest jobs there may be those of other keys.
        per_key = {
            executor: min(1 + free[executor] // PLACES_PER_RUNNING_JOB[kind_of(executor)], MAX_PER_USER)
            for executor in backlogs
        }
        jobs = list({*jobs, *_read(sender_queries.first_jobs_of_keys(queues, per_key))})
    return [job.id for job in order_fairly(jobs, running, free)[:limit]]


def lock_due(
    ids: Collection[Any], free: Capacities, limit: int, now: datetime, limits: RunningLimits
) -> list[Job]:
    """Lock, in a transaction, those of the jobs that were found that may still be claimed, and return them."""
    jobs = bulk.select(Job, *sender_queries.due_jobs(ids))
    limits.meet(jobs)
    return limits.take(order_fairly(jobs, _read_running(), free), limit)


def order_fairly(jobs: Iterable[S], running: Mapping[str, int], free: Capacities) -> list[S]:
    """Return the jobs that may begin, in the order in which they do.

    ``running``
        How many jobs of each concurrency key run.
    """
    begun, ranked = Counter(running), []
    for job in sorted(jobs, key=_priority_and_age):
        rank = begun[job.concurrency_key] if job.concurrency_key else 0
        begun[job.concurrency_key] += 1
        if rank < policy_at(job.task_path).concurrency or not job.concurrency_key:
            ranked.append((rank, job))
    left, ordered = dict(free), []
    for rank, job in sorted(ranked, key=lambda each: (each[0], *_priority_and_age(each[1]))):
        if left[job.executor] > rank * PLACES_PER_RUNNING_JOB[kind_of(job.executor)]:
            left[job.executor] -= 1
            ordered.append(job)
    return ordered


def _priority_and_age(job: Candidate | Job) -> tuple[int, Any]:
    return -job.priority, job.id


def _is_of_few_keys(jobs: list[Candidate], executor: str, most: int, running: Mapping[str, int]) -> bool:
    """Return whether these oldest jobs of an executor, at most ``most``, are not all of keys of which none runs."""
    keys = [job.concurrency_key for job in jobs if job.executor == executor]
    keyed = [key for key in keys if key]
    is_first_of_each = len(set(keyed)) == len(keyed) and running.keys().isdisjoint(keyed)
    return len(keys) >= most and not is_first_of_each


def _read(query: Query) -> list[Candidate]:
    with connection().cursor() as cursor:
        cursor.execute(*query)
        return [Candidate(*row) for row in cursor.fetchall()]


def _read_running() -> Counter[str]:
    with connection().cursor() as cursor:
        cursor.execute(*claim_queries.limited_running_jobs(()))
        return Counter(key for key, _queue, _path in cursor.fetchall())

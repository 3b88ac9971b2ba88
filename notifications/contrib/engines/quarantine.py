"""Dispatch quarantined jobs: one of them may have ended the process that ran them all.

A process of an engine claims one of them at a time (``engines/dispatched_jobs.py``), so that a job that ends
processes reaches its last attempt without taking the others along. Which process gets an id is decided by the
engine. So no more ids are dispatched than there are processes, and an id that came to a process with another
quarantined job is sent again when that job has ended, or soon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from django.db.models import Q

from notifications.compat import task_backends
from notifications.contrib.engines.dispatching import (
    FIRST_QUARANTINED_SECONDS,
    MAX_QUARANTINED_SECONDS,
    count_processes,
    mark_sent,
)
from notifications.db.clock import database_now, database_now_sql
from notifications.db.transactions import retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.claim_queries import Query, queued_jobs, read_ids
from notifications.jobs.claiming.executors import ENGINE_QUARANTINED
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.declaring.tasks import has_engine
from notifications.models import Job

#: Quarantined jobs of each backend that are looked at in one transaction.
MAX_JOBS_PER_BACKEND = 50


def dispatch_quarantined_jobs(unreachable: Collection[str] = (), *, has_room: bool = False) -> list[Job]:
    """Return quarantined jobs to be sent to their engines: the first ones, and those whose ids no process has claimed.

    Of the backends in ``unreachable``, whose engines did not answer this process, one job is sent in an interval, which
    tries them again. With ``has_room``, because a quarantined job has ended in this process, one that was refused is
    sent before its time.
    """
    claimable = candidates.claimable_queues((), (ENGINE_QUARANTINED,))
    if not claimable or not (ids := _read_first_of_backends(claimable)):
        return []

    def write() -> list[Job]:
        now = database_now()
        limits = RunningLimits(queue_limits(), {ENGINE_QUARANTINED: len(ids)})
        jobs = candidates.lock_jobs(
            now, len(ids), claimable, Q(id__in=ids), {ENGINE_QUARANTINED: len(ids)}, limits
        )
        max_dispatched = max(count_processes(now), 1)
        firsts: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            if len(firsts[job.backend]) < max_dispatched:
                firsts[job.backend].append(job)
        sent: list[Job] = []
        for alias, of_backend in firsts.items():
            due = [job for job in of_backend if job.next_dispatch_at is None or job.next_dispatch_at <= now]
            if has_room and not due:
                due = [job for job in of_backend if job.dispatched_at is None][:1]
            if alias in unreachable:
                due = due[:1] if len(due) == len(of_backend) else []
            sent += due
        mark_sent(sent, now, first=FIRST_QUARANTINED_SECONDS, most=MAX_QUARANTINED_SECONDS)
        return sent

    return retrying_atomic(write)


def _read_first_of_backends(queues: Collection[str]) -> list[UUID]:
    """Return ids of the first quarantined jobs of each backend, so that one with many leaves none of another out."""
    return [
        id
        for alias in task_backends.settings
        if has_engine(alias)
        for id in read_ids(_quarantined_jobs(queues, alias, MAX_JOBS_PER_BACKEND))
    ]


def _quarantined_jobs(queues: Collection[str], backend: str, limit: int) -> Query:
    """Return the query for the ids of the first due quarantined jobs of a backend in these queues, without a lock.

    It reads all quarantined jobs of the queues: at most as many as ran in processes that were lost.
    """
    now, now_param = database_now_sql()
    names = ", ".join(["%s"] * len(queues))
    sql = (
        f"SELECT id {queued_jobs()} AND queue_name IN ({names}) AND executor = '{ENGINE_QUARANTINED}' AND backend = %s "
        f"AND (run_after IS NULL OR run_after <= {now}) ORDER BY priority DESC, id LIMIT {limit}"
    )
    return sql, [*queues, backend, now_param]

"""Dispatch queued jobs to their engines: which ids are sent when. ``resending`` sends lost ones again.

The executor of a job of an engine is ENGINE until it may run, and then DISPATCHED until a process of the engine claims
it. Its row is the truth: an id that the engine's broker lost is dispatched again, and an id that arrives
twice has no effect, because the second claim finds the job running or done.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from notifications.contrib.engines.interface import DispatchedJob
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now, estimated_database_now
from notifications.db.transactions import database, fair_atomic, retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.executors import (
    DISPATCHED,
    DISPATCHED_EXECUTORS,
    ENGINE,
    ENGINE_QUARANTINED,
    ENGINE_SENDER,
    WORKER_EXECUTORS,
)
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.transitions import queueing
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job, Worker

#: Jobs that one transaction dispatches at most.
MAX_JOBS_PER_TRANSACTION = 50
#: Seconds after which an id that no process of the engine has claimed is dispatched again: first, and at most. Each
#: time it is twice as long, so that a long backlog in the broker is not doubled over and over.
FIRST_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 10.0, 900.0
#: The same for quarantined jobs, whose ids are few: after ids that no process has claimed, and after those that came to
#: a process with another quarantined job.
FIRST_QUARANTINED_SECONDS, FIRST_REFUSED_SECONDS, MAX_QUARANTINED_SECONDS = 10.0, 1.0, 60.0
#: By how much of itself each interval is longer or shorter, at random.
JITTER = 0.25


def next_dispatch(
    now: datetime,
    failed_dispatches: int = 0,
    first: float | None = None,
    most: float = MAX_INTERVAL_SECONDS,
) -> datetime:
    """Return when an id is dispatched again that is dispatched now, after so many times without a claim.

    ``first``, ``most``
        The seconds of the first interval and of the longest one. Each is twice as long as the one before.
    """
    seconds = interval_seconds(failed_dispatches, first, most)
    return now + timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))


def interval_seconds(
    failed_dispatches: int, first: float | None = None, most: float = MAX_INTERVAL_SECONDS
) -> float:
    """Return the mean seconds of the interval of ``next_dispatch()``."""
    first = FIRST_INTERVAL_SECONDS if first is None else first
    return min(first * 2 ** min(max(failed_dispatches, 0), 20), most)


def set_dispatched(job: Job) -> None:
    """Have a new job, which the caller inserts, dispatched at its commit."""
    now = estimated_database_now()
    job.executor, job.dispatch_count = DISPATCHED, 1
    job.dispatched_at, job.next_dispatch_at = now, next_dispatch(now)


def dispatch_due_jobs() -> list[Job]:
    """Mark jobs that may run now as DISPATCHED, by priority and age, and return them to be sent.

    Jobs of paused queues, jobs for later and jobs above a concurrency limit stay with ENGINE.
    """
    claimable = candidates.claimable_queues((), (ENGINE,))
    if not claimable:
        return []

    def write() -> list[Job]:
        now = database_now()
        limit = MAX_JOBS_PER_TRANSACTION
        limits = RunningLimits(queue_limits(), {ENGINE: limit}, claimable)
        jobs = candidates.lock_jobs(now, limit, claimable, Q(), {ENGINE: limit}, limits)
        for job in jobs:
            job.dispatched_at = now
        mark_dispatched(jobs, now)
        return jobs

    return retrying_atomic(write)


def postpone_unsent(unsent: Iterable[DispatchedJob]) -> None:
    """Have jobs that could not be sent to their engine dispatched again after the first interval.

    The failed dispatch does not count, because the intervals would grow with the length of an outage, and the jobs
    wait long after it.
    """
    fences = {job.id: job.fence for job in unsent}
    rows = Job.objects.using(database()).filter(
        id__in=fences, state=Job.State.QUEUED, executor__in=(DISPATCHED, ENGINE_SENDER)
    )

    def write() -> bool:
        now = database_now()
        jobs = [job for job in lock_query(rows.order_by("id")) if job.fence == fences[job.id]]
        for job in jobs:
            job.dispatch_count = max(job.dispatch_count - 1, 0)
            if job.dispatch_count <= job.attempt:
                job.dispatched_at = None
        conditional_update(
            "next_dispatch_at=%s, dispatch_count=%s, dispatched_at=%s",
            [((_next_dispatch(now, job), job.dispatch_count, job.dispatched_at), job) for job in jobs],
            state="queued",
        )
        return bool(jobs)

    if fences:
        fair_atomic(write)


def take_back(ids: Collection[UUID]) -> set[UUID]:
    """Have jobs that a process of an engine could not claim dispatched again, if they are still queued.

    A queue may have been paused, or a concurrency limit reached, since they were dispatched; or the process runs
    another quarantined job. Returns the ids of jobs that stay because another process holds their rows locked, perhaps
    only to defer their next dispatch.
    """
    dispatched = Job.objects.using(database()).filter(id__in=list(ids), state=Job.State.QUEUED)
    rows = dispatched.filter(executor__in=DISPATCHED_EXECUTORS)
    queued = set(rows.values_list("id", flat=True))

    def write() -> set[UUID]:
        jobs = list(lock_query(rows.order_by("id")))
        now = database_now()

        def changes(job: Job) -> tuple[str, datetime | None]:
            if job.executor != ENGINE_QUARANTINED:
                return ENGINE if job.executor == DISPATCHED else job.executor, None
            refusals = job.dispatch_count - job.attempt - 1
            return ENGINE_QUARANTINED, next_dispatch(
                now, refusals, FIRST_REFUSED_SECONDS, MAX_QUARANTINED_SECONDS
            )

        conditional_update(
            "executor=%s, next_dispatch_at=%s, dispatched_at=NULL",
            [(changes(job), job) for job in jobs],
            state="queued",
        )
        return queued - {job.id for job in jobs}

    return retrying_atomic(write) if queued else set()


def count_processes(now: datetime) -> int:
    rows = Worker.objects.using(database())
    return rows.filter(queues__startswith="engine:", lease_until__gte=now).count()


def move_to_engines() -> int:
    """Move queued jobs whose backend has gained an engine since they were enqueued; return how many."""
    return queueing.move_jobs(WORKER_EXECUTORS, has_engine_now=True)


def _next_dispatch(now: datetime, job: Job) -> datetime:
    return next_dispatch(now, max(job.dispatch_count - job.attempt, 0))


def mark_dispatched(jobs: Sequence[Job], now: datetime) -> None:
    """Store that the ids of jobs are sent now. Inside a transaction that holds the rows locked."""
    conditional_update(
        f"executor='{DISPATCHED}', next_dispatch_at=%s, dispatched_at=%s, dispatch_count=dispatch_count+1",
        [((_next_dispatch(now, job), job.dispatched_at), job) for job in jobs],
        state="queued",
    )


def mark_sent(
    jobs: Sequence[Job], now: datetime, *, first: float | None = None, most: float = MAX_INTERVAL_SECONDS
) -> None:
    """Store that the ids of jobs are sent now, which keep their executor, and when they are sent again.

    Inside a transaction that holds the rows locked. ``first`` and ``most`` are as in ``next_dispatch()``.
    """
    conditional_update(
        "next_dispatch_at=%s, dispatched_at=%s, dispatch_count=dispatch_count+1",
        [((next_dispatch(now, job.dispatch_count - job.attempt, first, most), now), job) for job in jobs],
        state="queued",
    )

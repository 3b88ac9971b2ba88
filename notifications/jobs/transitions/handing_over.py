"""Hand queued jobs over to their engines: which ids are sent when, and sent again.

A job of an engine is queued in the lane "engine" until it may run, and then in the lane "handed" until a process of the
engine claims it. Its row is the truth: an id that the engine's broker lost is handed over again, and an id that arrives
twice has no effect, because the second claim finds the job running or done.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import Q

from notifications import streams, times
from notifications.compat import task_backends
from notifications.db.transactions import connection, database, fair_atomic, retrying_atomic
from notifications.jobs.claiming import candidates, claim_queries
from notifications.jobs.claiming.claim_queries import Query
from notifications.jobs.claiming.lanes import ENGINE, ENGINE_LANES, HANDED, LANES, first_lane, has_engine
from notifications.jobs.transitions.guards import database_now, guarded_update, lock_query
from notifications.models import Job

#: Jobs that one transaction hands over at most.
MAX_JOBS_PER_TRANSACTION = 50
#: Seconds after which an id that no process of the engine has claimed is handed over again: first, and at most. Each
#: time it is twice as long, so that a long backlog in the broker is not doubled over and over.
FIRST_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 10.0, 900.0
#: Jobs that are sent again at a time although the engine seems to come to them.
MAX_UNSUSPECTED_JOBS = 10
#: A job is overtaken if the engine has begun one that was enqueued so many seconds later.
OVERTAKEN_SECONDS = 5.0
#: An engine runs jobs of a queue if it has finished one within so many seconds, of so many finished jobs.
RECENT_SECONDS, MAX_RECENT_JOBS = 5.0, 100
#: By how much of itself each interval is longer or shorter, at random.
JITTER = 0.25


def next_hand_over(now: datetime, failed_handovers: int = 0) -> datetime:
    """Return when an id is handed over again that is handed over now, after so many times without a claim."""
    seconds = min(FIRST_INTERVAL_SECONDS * 2 ** min(failed_handovers, 20), MAX_INTERVAL_SECONDS)
    return now + timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))


def hand_over_due_jobs() -> list[Job]:
    """Move jobs that may run now to the lane "handed", by priority and age, and return them to be sent.

    Jobs of paused queues, jobs for later and jobs above a concurrency limit stay in the lane "engine".
    """
    claimable = candidates.claimable_queues((), (ENGINE,))
    if not claimable:
        return []

    def write() -> list[Job]:
        now = database_now()
        limit = MAX_JOBS_PER_TRANSACTION
        jobs = candidates.lock_jobs(now, limit, claimable, Q(), {ENGINE: limit}, count_handed=True)
        _mark_handed(jobs, now)
        return jobs

    return retrying_atomic(write)


def hand_over_again() -> list[Job]:
    """Return jobs whose ids were handed over long ago and that are still queued, to be sent again.

    Most of them wait behind others in the engine. Lost is what the engine has overtaken, or what it does not run
    although it runs nothing else of the queue. Of what is not known to be lost only a few are sent at a time.
    """
    rows = Job.objects.using(database()).filter(state=Job.State.QUEUED, lane=HANDED)
    if not rows.filter(hand_over_at__lte=database_now()).order_by("hand_over_at", "id").exists():
        return []
    newest = _newest_claimed_jobs()

    def write() -> list[Job]:
        now = database_now()
        overdue = rows.filter(hand_over_at__lte=now).order_by("hand_over_at", "id")
        jobs = list(lock_query(overdue)[:MAX_JOBS_PER_TRANSACTION])
        lost: list[Job] = []
        others: list[Job] = []
        for job in jobs:
            (lost if _is_lost(job, newest) else others).append(job)
        sent = lost + others[:MAX_UNSUSPECTED_JOBS]
        _mark_handed(sent, now)
        guarded_update(
            "hand_over_at=%s",
            [((_next_hand_over(now, job),), job) for job in others[MAX_UNSUSPECTED_JOBS:]],
            state="queued",
        )
        return sent

    return retrying_atomic(write)


def take_back(ids: Collection[UUID]) -> set[UUID]:
    """Move jobs that a process of an engine could not claim back to the lane "engine", if they are still queued.

    A queue may have been paused, or a concurrency limit reached, since they were handed over. Returns the ids of jobs
    that stay because another process holds their rows locked, perhaps only to defer their next hand-over.
    """
    rows = Job.objects.using(database()).filter(id__in=list(ids), state=Job.State.QUEUED, lane=HANDED)
    queued = set(rows.values_list("id", flat=True))

    def write() -> set[UUID]:
        jobs = list(lock_query(rows.order_by("id")))
        guarded_update(f"lane='{ENGINE}', hand_over_at=NULL", [((), job) for job in jobs], state="queued")
        return queued - {job.id for job in jobs}

    return retrying_atomic(write) if queued else set()


def move_to_configured_lanes() -> int:
    """Move queued jobs whose backend has gained or lost its engine since they were enqueued; return how many.

    So a backlog goes to the engine, or to the built-in worker, when the setting is changed.
    """
    moved = 0
    backends = [alias for alias in task_backends.settings if has_engine(alias)]
    # A backend that is not in TASKS any more has no engine.
    for is_with_engine, lanes in ((True, LANES), (False, ENGINE_LANES)):
        # Found outside the transaction: it reads all queued jobs.
        query = claim_queries.jobs_of_backends(backends, lanes, is_with_engine, MAX_JOBS_PER_TRANSACTION)
        while ids := _read_ids(query):
            if not (count := fair_atomic(partial(_move, ids, lanes))):
                break
            moved += count
    return moved


def _read_ids(query: Query) -> list[UUID]:
    db = connection()
    with db.cursor() as cursor:
        cursor.execute(*query)
        return [id if isinstance(id, UUID) else UUID(id) for (id,) in cursor]


def _move(ids: Collection[UUID], lanes: Collection[str]) -> int:
    """Move these jobs out of these lanes, if they are still queued there. Returns how many."""
    rows = Job.objects.using(database()).filter(id__in=ids, state=Job.State.QUEUED, lane__in=lanes)
    jobs = list(lock_query(rows.order_by("id")))
    moves = [((first_lane(job.task_path, job.backend),), job) for job in jobs]
    guarded_update("lane=%s, hand_over_at=NULL", moves, state="queued")
    streams.ring((), queue=bool(jobs))
    return len(jobs)


def _newest_claimed_jobs() -> dict[str, UUID]:
    """Return, by queue, the newest of the jobs that engines run now or have finished within the last seconds."""
    jobs = Job.objects.using(database()).filter(lane=ENGINE)
    # The orders of the indexes of running and of finished jobs.
    running = jobs.filter(state=Job.State.RUNNING, worker__isnull=False).order_by("worker", "id")
    since = times.now() - timedelta(seconds=RECENT_SECONDS)
    finished = jobs.filter(finished_at__gte=since).order_by("-finished_at")
    columns = ("queue_name", "id")
    newest: dict[str, UUID] = {}
    for queue, id in (*running.values_list(*columns), *finished.values_list(*columns)[:MAX_RECENT_JOBS]):
        newest[queue] = max(newest.get(queue, id), id)
    return newest


def _is_lost(job: Job, newest: Mapping[str, UUID]) -> bool:
    """Return whether the engine has begun jobs that were enqueued well after this one, or none of its queue."""
    claimed = newest.get(job.queue_name)
    return claimed is None or _enqueued_at(claimed) - _enqueued_at(job.id) > OVERTAKEN_SECONDS


def _enqueued_at(id: UUID) -> float:
    """Return the seconds since 1970 in a UUID of version 7."""
    return (id.int >> 80) / 1000


def _next_hand_over(now: datetime, job: Job) -> datetime:
    return next_hand_over(now, max(job.handovers - job.attempt, 0))


def _mark_handed(jobs: Sequence[Job], now: datetime) -> None:
    guarded_update(
        f"lane='{HANDED}', hand_over_at=%s, handovers=handovers+1",
        [((_next_hand_over(now, job),), job) for job in jobs],
        state="queued",
    )

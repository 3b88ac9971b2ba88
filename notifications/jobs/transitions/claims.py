"""Claims: jobs from ``queued`` to ``running``, under the lease of a worker, and what is stored while they run."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Q

from notifications import streams, times
from notifications.db import bulk
from notifications.db.clock import database_now, database_now_sql
from notifications.db.schema import wait_for_tables
from notifications.db.transactions import connection, database, execute_one, retrying_atomic
from notifications.jobs.claiming import candidates, claim_queries, senders
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.executors import (
    DISPATCHED,
    ENGINE,
    ENGINE_QUARANTINED,
    ENGINE_SENDER,
    WORKER_EXECUTORS,
    Capacities,
)
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.transitions.conditional_updates import conditional_update, update_locked_rows
from notifications.jobs.transitions.enqueueing import QUEUED_KEY_PREFIX
from notifications.models import Job

if TYPE_CHECKING:
    from notifications.compat import TaskResult

#: A job's id and the fence of one claim. A worker may hold two claims of one job: after the deadline of the first one,
#: whose sync task could not be stopped, the same worker claimed the job again.
Claim = tuple[UUID, int]
#: Seconds between the timeout of a task and the deadline of its claim. A worker whose event loop is blocked renews its
#: lease from another thread; only the deadline takes the job away from it.
DEADLINE_MARGIN_SECONDS = 60
#: Seconds that a claim allows for a task whose timeout the worker does not know yet.
DEFAULT_TIMEOUT_SECONDS = 300
#: What a claim in one statement reads of the jobs that it locks.
LOCKED_COLUMNS = "id, concurrency_key"
CLAIM_ASSIGNMENTS = (
    "state = 'running'",
    "fence = fence + 1",
    "attempt = attempt + 1",
    "version = version + 1",
    # A queued key stands for a job until it begins. A call that takes the key from a running job would lock it instead,
    # and its worker would wait for the commit of the caller.
    f"idempotency_key = CASE WHEN substr(idempotency_key, 1, {len(QUEUED_KEY_PREFIX)}) = '{QUEUED_KEY_PREFIX}' "
    "THEN '' ELSE idempotency_key END",
)
#: A job that runs is not DISPATCHED: if it is queued again, it waits to be dispatched again.
DISPATCHED_CLAIM_ASSIGNMENTS = (
    *CLAIM_ASSIGNMENTS,
    f"executor = CASE executor WHEN '{DISPATCHED}' THEN '{ENGINE}' ELSE executor END",
    "next_dispatch_at = NULL",
)
PROGRESS_COLUMNS = ("progress_current", "progress_total", "progress_message")


@dataclass(slots=True, eq=False)
class ClaimedJob:
    """The row of a claimed job, and what its worker knows beyond the row.

    ``claim_jobs()`` makes one for each row, ``prepare_claimed_jobs()`` completes it, and an ``Execution`` holds it
    until the outcome is recorded. It is created for each job, so it uses ``__slots__`` (0.3 µs).

    ``owner``
        The primary key of the owner of the job, or else of its batch.
    ``task_result``
        The TaskResult in the context of a task with ``takes_context=True``. None if nothing needs it.
    """

    row: Job
    owner: Any = None
    task_result: TaskResult | None = None


def claim_of(job: Job) -> Claim:
    """Return the claim that the row of a claimed job stands for."""
    return job.id, job.fence


def claim_jobs(
    worker: UUID,
    limit: int,
    *,
    queues: Sequence[str] = (),
    timeouts: Mapping[str, float] | None = None,
    among: Q | None = None,
    executors: Capacities | None = None,
) -> list[ClaimedJob]:
    """Claim at most ``limit`` jobs that are due, by priority and age.

    ``queues``
        Names of queues; all if empty.
    ``timeouts``
        Seconds that tasks may take, by their dotted paths, as far as the worker knows them.
    ``among``
        A condition that the jobs must meet.
    ``executors``
        How many jobs of each executor may be claimed; none of one that is left out. ``limit`` of each by default.
    """
    timeouts = timeouts or {}
    if executors is None:
        executors = dict.fromkeys(WORKER_EXECUTORS, limit)
    executors = {name: most for name, count in executors.items() if (most := min(count, limit)) > 0}
    if not executors:
        return []
    wait_for_tables()
    can_use_one_statement = among is None and connection().vendor == "postgresql"
    limited = queue_limits().keys()
    if can_use_one_statement and limited.isdisjoint(queues):
        query = (
            claim_queries.first_jobs_of_queues(LOCKED_COLUMNS, limit, queues, executors)
            if queues
            else claim_queries.first_jobs_of_all_queues(limit, executors, limited)
        )
        if claimed := _claim_in_one_statement(worker, limit, timeouts, *query):
            return claimed
    claimable = candidates.claimable_queues(queues, executors)
    if not claimable:
        return []
    can_use_one_statement = (
        can_use_one_statement and not queues and limited.isdisjoint(claimable) and not any(claimable.values())
    )
    if can_use_one_statement:
        query = claim_queries.first_jobs_of_queues(LOCKED_COLUMNS, limit, claimable, executors)
        if claimed := _claim_in_one_statement(worker, limit, timeouts, *query):
            return claimed

    def lock(now: datetime, limits: RunningLimits) -> list[Job]:
        return candidates.lock_jobs(now, limit, claimable, among or Q(), executors, limits)

    claimed, _ = retrying_atomic(lambda: _lock_and_claim(worker, timeouts, executors, lock))
    return claimed


def claim_sender_jobs(
    worker: UUID,
    limit: int,
    executors: Capacities,
    *,
    queues: Sequence[str] = (),
    timeouts: Mapping[str, float] | None = None,
) -> list[ClaimedJob]:
    """Claim at most ``limit`` jobs of the app's own senders that are due, as ``claiming/senders.py`` orders them.

    The arguments are those of ``claim_jobs``.
    """
    claimable = candidates.claimable_queues(queues, executors)
    # Without a transaction while all that waits is of keys at their limits.
    ids = senders.find(claimable, executors, limit) if claimable else []
    if not ids:
        return []

    def lock(now: datetime, limits: RunningLimits) -> list[Job]:
        return senders.lock(ids, executors, limit, limits)

    claimed, _ = retrying_atomic(lambda: _lock_and_claim(worker, timeouts or {}, executors, lock))
    return claimed


def make_claims_durable() -> None:
    """Wait until PostgreSQL has written the claims that were made before to its disk."""
    if connection().vendor == "postgresql":
        # A commit waits for the disk only if its transaction has written something.
        execute_one("SELECT pg_logical_emit_message(true, 'notifications', '')", ())


def claim_dispatched_jobs(
    worker: UUID,
    ids: Collection[UUID],
    timeouts: Mapping[str, float] | None = None,
    *,
    max_quarantined: int = 1,
) -> tuple[list[ClaimedJob], set[UUID]]:
    """Claim, for a worker in a process of an engine, those of these jobs that may run now.

    The others are left out: they run or are done already, their queue is paused or a limit is reached, or they are not
    due. Returns the claimed jobs, and the ids of jobs that another claim kept from being claimed, which was checking
    the same limit: try again soon. ``timeouts`` is that of ``claim_jobs``, ``max_quarantined`` how many jobs of the
    quarantined jobs may be claimed.
    """
    wait_for_tables()
    timeouts = timeouts or {}
    ids = sorted(set(ids))
    claimed: list[ClaimedJob] = []
    is_limited = bool(queue_limits())
    if connection().vendor == "postgresql" and not is_limited:
        query = claim_queries.dispatched_jobs(ids)
        claimed = _claim_in_one_statement(
            worker, len(ids), timeouts, *query, assignments=DISPATCHED_CLAIM_ASSIGNMENTS, is_durable=True
        )
        claimed_ids = {job.row.id for job in claimed}
        ids = [id for id in ids if id not in claimed_ids]
    if (
        not ids
        or not Job.objects.using(database()).filter(id__in=ids, state__iexact=Job.State.QUEUED).exists()
    ):
        return claimed, set()  # the others run or are done: their ids were doubled
    executors = {
        **dict.fromkeys((ENGINE, DISPATCHED, ENGINE_SENDER), len(ids)),
        ENGINE_QUARANTINED: max_quarantined,
    }
    executors = {executor: count for executor, count in executors.items() if count > 0}
    claimable = candidates.claimable_queues((), executors)
    if not claimable:
        return claimed, set()

    def lock(now: datetime, limits: RunningLimits) -> list[Job]:
        return candidates.lock_jobs(now, len(ids), claimable, Q(id__in=ids), executors, limits)

    more, locked_ids = retrying_atomic(
        lambda: _lock_and_claim(worker, timeouts, executors, lock, is_dispatched=True)
    )
    return claimed + more, locked_ids


def _lock_and_claim(
    worker: UUID,
    timeouts: Mapping[str, float],
    executors: Capacities,
    lock: Callable[[datetime, RunningLimits], list[Job]],
    *,
    is_dispatched: bool = False,
) -> tuple[list[ClaimedJob], set[UUID]]:
    """Claim in a transaction the jobs that ``lock`` returns, given the time and limits that know nothing yet.

    Returns them, and the ids of those that another claim kept from being claimed.
    """
    now = database_now()
    limits = RunningLimits(queue_limits(), executors)
    jobs = lock(now, limits)
    claimed = [ClaimedJob(job, job.user_id) for job in jobs]
    for job in jobs:
        job.state = Job.State.RUNNING
        job.executor = ENGINE if is_dispatched and job.executor == DISPATCHED else job.executor
        job.worker = worker
        job.fence += 1
        job.attempt += 1
        job.version += 1
        job.started_at = now
        job.deadline = now + timedelta(
            seconds=timeouts.get(job.task_path, DEFAULT_TIMEOUT_SECONDS) + DEADLINE_MARGIN_SECONDS
        )
    db = connection()
    to_db = partial(times.to_db, db=db)
    worker_value = Job._meta.pk.get_db_prep_value(worker, db)
    update_locked_rows(
        ("worker", "started_at", "deadline"),
        [((worker_value, to_db(now), to_db(job.deadline)), job) for job in jobs],
        assignments=DISPATCHED_CLAIM_ASSIGNMENTS if is_dispatched else CLAIM_ASSIGNMENTS,
        states=(Job.State.QUEUED,),
        fence=lambda job: job.fence - 1,
    )
    streams.ring(job.user_id for job in jobs)
    return claimed, limits.locked_ids - {job.id for job in jobs}


def _claim_in_one_statement(
    worker: UUID,
    limit: int,
    timeouts: Mapping[str, float],
    locking: str,
    params: Sequence[Any],
    *,
    assignments: Sequence[str] = CLAIM_ASSIGNMENTS,
    is_durable: bool = False,
) -> list[ClaimedJob]:
    """Claim the jobs that the query ``locking`` locks, in one round trip to PostgreSQL.

    Claims nothing if one of the jobs has a concurrency key: its limit must be checked first.

    Unless ``is_durable``, the commit does not wait for the disk, which takes a quarter of the time from enqueueing to
    the start of a job. If the database server crashes before the next commit that does, the claim is lost: the job is
    queued again, and another worker may claim it with the same fence, so each change of a running job is conditional on
    its worker too. The last attempt is claimed durably: it must not be made twice.
    """
    now, now_param = database_now_sql()
    columns = ", ".join(f"j.{field.column}" for field in Job._meta.concrete_fields)
    rows = execute_one(
        f"WITH due AS MATERIALIZED ({locking}) "
        f"UPDATE notifications_job j SET {', '.join(assignments)}, worker = %s, started_at = clock.now, "
        "deadline = clock.now + make_interval(secs => coalesce((%s::jsonb ->> j.task_path)::float8, %s) + %s) "
        f"FROM due, {now} AS clock (now) WHERE j.id = due.id AND j.state = 'queued' "
        "AND NOT EXISTS (SELECT 1 FROM due WHERE concurrency_key <> '') "
        f"RETURNING {columns}, "
        "CASE WHEN j.attempt >= j.max_attempts THEN set_config('synchronous_commit', 'on', true) END",
        [*params, worker, json.dumps(timeouts), DEFAULT_TIMEOUT_SECONDS, DEADLINE_MARGIN_SECONDS, now_param],
        is_durable=is_durable,
    )
    jobs = bulk.instances(Job, (row[:-1] for row in rows))
    streams.ring(job.user_id for job in jobs)
    return [ClaimedJob(job, job.user_id) for job in candidates.first_jobs(jobs, limit)]


def read_claims(worker: UUID) -> list[Job]:
    """Return the running jobs of a worker, with the columns on which their changes are conditional."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    return list(running.only("id", "fence", "state", "worker", "executor", "user"))


def cancellations_requested(worker: UUID) -> list[tuple[UUID, int, bool]]:
    """Return id, fence and ``cancelled_by_other`` of the running jobs of a worker that are to be cancelled."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    requested = running.filter(cancel_requested_at__isnull=False)
    return list(requested.values_list("id", "fence", "cancelled_by_other"))


def extend_deadlines(jobs: Sequence[Job], timeouts: Mapping[str, float]) -> None:
    """Count the deadlines of claimed jobs from now.

    For jobs whose timeout became known only after the claim, and for jobs that still wait for a thread. ``timeouts``
    are the seconds that tasks may take, by their dotted paths.
    """
    now = database_now()
    rows = [
        ((now + timedelta(seconds=timeouts[job.task_path] + DEADLINE_MARGIN_SECONDS),), job) for job in jobs
    ]
    retrying_atomic(lambda: conditional_update("deadline=%s", rows))


def store_progress(jobs: Sequence[Job]) -> None:
    """Store the progress of running jobs, and ring for their owners."""

    def write() -> None:
        conditional_update(
            "progress_current=%s, progress_total=%s, progress_message=%s, version=version+1",
            [(progress_of(job), job) for job in jobs],
        )
        streams.ring(job.user_id for job in jobs)

    retrying_atomic(write)


def progress_of(job: Job) -> tuple[Any, ...]:
    """Return the values of ``PROGRESS_COLUMNS``."""
    return (job.progress_current, job.progress_total, job.progress_message)

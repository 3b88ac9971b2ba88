"""Claims: jobs from the queue to ``running``, under the lease of a worker."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications import streams, times
from notifications.db import bulk
from notifications.db.clock import database_now, database_now_sql
from notifications.db.transactions import (
    call_after_write,
    connection,
    dialect,
    execute_one,
    fair_atomic,
    retrying_atomic,
)
from notifications.jobs import turns
from notifications.jobs.claiming import candidates, claim_queries, sources
from notifications.jobs.claiming.candidates import DueQueue, RunningLimits, queue_watch
from notifications.jobs.claiming.executors import (
    SENDER_EXECUTORS,
    WORKER_EXECUTORS,
    Capacities,
)
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.claiming.sources import Query, Source
from notifications.jobs.transitions.conditional_updates import update_locked_rows
from notifications.jobs.transitions.enqueueing import QUEUED_KEY_PREFIX
from notifications.jobs.transitions.limiting import (
    START_VALID_SECONDS,
    take_within_limits,
    wait_in_lines,
)
from notifications.jobs.transitions.running import DEADLINE_MARGIN_SECONDS, ClaimedJob, deadline_after
from notifications.models import Job

#: Seconds that a claim allows for a task whose timeout the worker does not know yet.
DEFAULT_TIMEOUT_SECONDS = 300
#: What a claim in one statement reads of the jobs that it locks.
LOCKED_COLUMNS = "id, concurrency_key, limit_key, expires_at"
CLAIM_ASSIGNMENTS = (
    "state = 'running'",
    "fence = fence + 1",
    "attempt = attempt + 1",
    "version = version + 1",
    # A queued key stands for a job until it begins. A call that takes the key from a running job would lock it instead,
    # and its worker would wait for the commit of the caller.
    f"idempotency_key = CASE WHEN substr(idempotency_key, 1, {len(QUEUED_KEY_PREFIX)}) = '{QUEUED_KEY_PREFIX}' "
    "THEN '' ELSE idempotency_key END",
    # A job that has begun does not expire, however often it is queued again.
    "expires_at = NULL",
    "limit_turn = NULL",
)
#: Transactions of one claim whose jobs wait for the limits of their keys, so that further ones are looked for.
MAX_LIMITED_CLAIMS = 2
#: Jobs that wait behind those with their keys in one transaction.
MAX_FOLLOWERS = 100


def claim_jobs(
    worker: UUID,
    limit: int,
    *,
    source: Source | None = None,
    timeouts: Mapping[str, float | None] | None = None,
    among: Q | None = None,
    joining: Collection[UUID] = (),
    executors: Capacities | None = None,
) -> list[ClaimedJob]:
    """Claim at most ``limit`` jobs that are in the queue and have not expired, by priority and in turn.

    ``source``
        Of which backends and queues; those of the built-in worker by default.
    ``timeouts``
        Seconds that tasks may take, None for no limit, by their dotted paths, as far as the worker knows them.
    ``among``
        A condition that the jobs must meet.
    ``joining``
        Jobs that run in this worker and wait for jobs ``among``. They do not count for the limits of their queues, or
        the jobs for which they wait would never begin.
    ``executors``
        How many jobs of each kind of executor may be claimed; none of one that is left out. ``limit`` of each by
        default. For those of senders it is how many places are free, also if these are more than ``limit``.
    """
    timeouts = timeouts or {}
    source = source or sources.builtin_source()
    if executors is None:
        executors = dict.fromkeys(WORKER_EXECUTORS, limit)
    kinds = {
        name: count if name in SENDER_EXECUTORS else min(count, limit)
        for name, count in executors.items()
        if min(count, limit) > 0
    }
    if not kinds:
        return []
    claimed = _claim(worker, limit, source, timeouts, among, joining, kinds)
    counts = Counter([job.row.executor for job in claimed])
    is_full = len(claimed) == limit
    busy = [kind for kind, most in kinds.items() if is_full or counts[kind] == most]
    if among is None:
        turns.note_idle(kinds.keys() - busy)
    if busy:
        # Jobs are left, so the order in which they begin matters.
        begun = [job.row for job in claimed]
        call_after_write(lambda: _follow_full_claim(begun, busy, source, kinds))
    return claimed


def _follow_full_claim(
    begun: Sequence[Job], busy: Collection[str], source: Source, kinds: Capacities
) -> None:
    if turns.note_begun(begun, busy) and source == Source():
        queue_watch.refresh(kinds)


def _claim(
    worker: UUID,
    limit: int,
    source: Source,
    timeouts: Mapping[str, float | None],
    among: Q | None,
    joining: Collection[UUID],
    executors: Capacities,
) -> list[ClaimedJob]:
    can_use_one_statement = among is None and claim_queries.can_lock_first_jobs()
    # Each job of a sender has a concurrency key, which one statement does not claim.
    if can_use_one_statement and executors.keys() - set(SENDER_EXECUTORS):
        query = _one_statement(source, limit, executors)
        if query and (claimed := _claim_in_one_statement(worker, limit, timeouts, *query)):
            return claimed
    # The jobs that wait may fill the limit of their queue.
    find_queues = candidates.due_queues if joining else candidates.claimable_queues
    if due := find_queues(source, executors):
        return _claim_due(worker, limit, timeouts, due, among, joining, executors, can_use_one_statement)
    return []


def _one_statement(source: Source, limit: int, executors: Capacities) -> Query | None:
    """Return the query that locks the first jobs of a source, None if it has queues with limits."""
    limited = queue_limits().keys()
    if source == Source() and not queue_watch.has_several():
        return claim_queries.first_jobs_of_all_queues(limit, executors, limited)
    if limited and (not source.queues or not limited.isdisjoint(source.queues)):
        return None
    names = sources.names_of(source)
    return claim_queries.first_jobs_of_queues(LOCKED_COLUMNS, limit, names, executors)


def _claim_due(
    worker: UUID,
    limit: int,
    timeouts: Mapping[str, float | None],
    due: Sequence[DueQueue],
    among: Q | None,
    joining: Collection[UUID],
    executors: Capacities,
    can_use_one_statement: bool,
) -> list[ClaimedJob]:
    queues = list(dict.fromkeys((queue.backend, queue.name) for queue in due))
    # SQLite opens temporary tables for each of them, 1.6 MB for five, also for those without jobs. Where the allocator
    # gave that back each time, a claim had 380 page faults more, a third of its time.
    executors = {name: executors[name] for name in dict.fromkeys(queue.executor for queue in due)}
    is_unlimited = queue_limits().keys().isdisjoint(name for _, name in queues)
    if can_use_one_statement and is_unlimited and not any(queue.has_key for queue in due):
        query = claim_queries.first_jobs_of_queues(
            LOCKED_COLUMNS, limit, sources.values_of_names(queues), executors
        )
        if claimed := _claim_in_one_statement(worker, limit, timeouts, *query):
            return claimed

    def lock(now: datetime, limit: int, executors: Capacities) -> list[Job]:
        limits = RunningLimits(queue_limits(), executors, joining)
        return candidates.lock_jobs(now, limit, queues, among or Q(), executors, limits)

    def have_others_wait() -> int:
        now = database_now()
        return wait_in_lines(lock(now, MAX_FOLLOWERS, dict.fromkeys(executors, MAX_FOLLOWERS)), now)

    for _ in range(MAX_LIMITED_CLAIMS):
        claimed, waiting = retrying_atomic(
            lambda: _lock_and_claim(worker, timeouts, lambda now: lock(now, limit, executors))
        )
        if claimed or not waiting:
            break
        # These keys are closed, and there may be many more jobs with them.
        fair_atomic(have_others_wait)
    if waiting:
        streams.ring((), queue=True)
    return claimed


def make_claims_durable() -> None:
    """Wait until the claims that were made before are on the disk."""
    for statement in dialect().make_commits_durable():
        execute_one(*statement)


def _lock_and_claim(
    worker: UUID,
    timeouts: Mapping[str, float | None],
    lock: Callable[[datetime], list[Job]],
) -> tuple[list[ClaimedJob], int]:
    """Claim in a transaction the jobs that ``lock`` returns, given the time.

    Returns also how many of them wait now for the limits of their keys.
    """
    start_by = time.monotonic() + START_VALID_SECONDS
    now = database_now()
    locked = lock(now)
    jobs, counted = take_within_limits(locked, now)
    claimed = [
        ClaimedJob(job, job.user_id, start_by=start_by if job.limit_key in counted else None) for job in jobs
    ]
    for job in jobs:
        job.state = Job.State.RUNNING
        job.worker = worker
        job.fence += 1
        job.attempt += 1
        job.version += 1
        job.started_at = now
        job.deadline = deadline_after(now, timeouts.get(job.task_path, DEFAULT_TIMEOUT_SECONDS))
    db = connection()
    to_db = partial(times.to_db, db=db)
    worker_value = Job._meta.pk.get_db_prep_value(worker, db)
    update_locked_rows(
        ("worker", "started_at", "deadline"),
        [((worker_value, to_db(now), job.deadline and to_db(job.deadline)), job) for job in jobs],
        assignments=CLAIM_ASSIGNMENTS,
        states=(Job.State.QUEUED,),
        fence=lambda job: job.fence - 1,
    )
    streams.ring(job.owner for job in claimed)
    return claimed, len(locked) - len(jobs)


def _claim_in_one_statement(
    worker: UUID,
    limit: int,
    timeouts: Mapping[str, float | None],
    locking: str,
    params: Sequence[Any],
) -> list[ClaimedJob]:
    """Claim the jobs that the query ``locking`` locks, in one round trip to PostgreSQL.

    Claims nothing if one of the jobs has a key, whose limit must be checked first, or has expired.

    The commit does not wait for the disk, which takes a quarter of the time from enqueueing to
    the start of a job. If the database server crashes before the next commit that does, the claim is lost: the job is
    queued again, and another worker may claim it with the same fence, so each change of a running job is conditional on
    its worker too. The last attempt is claimed durably: it must not be made twice.
    """
    now, now_param = database_now_sql()
    columns = ", ".join(
        f"{'due' if field.column == 'expires_at' else 'j'}.{field.column}"
        for field in Job._meta.concrete_fields
    )
    rows = execute_one(
        # One time for all, whatever the plan.
        f"WITH clock (now) AS MATERIALIZED {now}, due AS MATERIALIZED ({locking}) "
        f"UPDATE notifications_job j SET {', '.join(CLAIM_ASSIGNMENTS)}, worker = %s, started_at = clock.now, "
        # The null of a task without a limit becomes NULL, a task that is not among them has the default.
        "deadline = clock.now + make_interval("
        "secs => (coalesce(%s::jsonb -> j.task_path, to_jsonb(%s::float8)) #>> '{}')::float8 + %s) "
        "FROM due, clock WHERE j.id = due.id AND j.state = 'queued' "
        "AND NOT EXISTS (SELECT 1 FROM due "
        "WHERE concurrency_key <> '' OR limit_key <> '' OR expires_at <= (SELECT now FROM clock)) "
        f"RETURNING {columns}, "
        "CASE WHEN j.attempt >= j.max_attempts THEN set_config('synchronous_commit', 'on', true) END",
        [now_param, *params, worker, json.dumps(timeouts), DEFAULT_TIMEOUT_SECONDS, DEADLINE_MARGIN_SECONDS],
        is_durable=False,
    )
    jobs = bulk.instances(Job, (row[:-1] for row in rows))
    streams.ring(job.user_id for job in jobs)
    return [ClaimedJob(job, job.user_id) for job in candidates.first_jobs(jobs, limit)]

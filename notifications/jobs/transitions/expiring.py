"""End queued jobs that have not begun by their ``expires_at``.

A claim takes no expired job, whatever its process has ended before. It clears ``expires_at``, so that a queued job with
one has not begun.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from notifications import streams
from notifications.db import bulk
from notifications.db.bulk import lock_sql
from notifications.db.clock import database_now, database_now_sql
from notifications.db.keyset import read_ids
from notifications.db.transactions import execute_many, fair_atomic
from notifications.extension import RecordedTransaction
from notifications.jobs import outcomes
from notifications.jobs.outcomes import Outcome
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import notify_functions
from notifications.jobs.transitions.conditional_updates import prepare_id
from notifications.jobs.transitions.recording import end_jobs
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

# The index "expiry" has only queued jobs with an expiry.
_IS_EXPIRED = "expires_at <= {now} AND state = 'queued'"


def expired_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_expired_jobs`` finds something, and its parameters."""
    now, now_param = database_now_sql()
    # In the order of the index: for EXISTS, which has none, PostgreSQL reads all jobs if many are to expire later.
    first = f"SELECT expires_at FROM notifications_job WHERE {_IS_EXPIRED.format(now=now)} ORDER BY expires_at LIMIT 1"
    return f"({first}) IS NOT NULL", (now_param,)


def find_expired_jobs() -> Iterator[UUID]:
    """Yield the ids of queued jobs that have expired, those first that expired first."""
    now, now_param = database_now_sql()
    yield from read_ids(Job, _IS_EXPIRED.format(now=now), [now_param], "expires_at")


def end_expired_jobs(ids: Collection[UUID]) -> None:
    """End those of these jobs that have expired. Rows that another process holds locked are left to it."""
    now, now_param = database_now_sql()
    of_ids, params = bulk.where_in(Job, "id", list(map(prepare_id(), ids)))
    jobs = bulk.select_rows(Job, f"WHERE {of_ids} AND {_IS_EXPIRED.format(now=now)}", [*params, now_param])
    # Outcomes call translations and the task's policy, so they are made before the transaction.
    policies = {path: policy_at(path) for path in {job.task_path for job in jobs}}
    group = [outcomes.failure(job, policies[job.task_path], "expired") for job in jobs]
    if ready := notify_functions.record_apart(group, _end):
        _end(ready)


def _end(group: Sequence[Outcome]) -> None:
    group = notify_functions.call_all(group)
    ended = end_jobs(
        lambda tx: _lock_expired(group, tx),
        states=(Job.State.QUEUED,),
        run=partial(fair_atomic, more_follows=True),
    )
    if ended:
        logger.info("Ended jobs that have expired: %d", len(ended))


def _lock_expired(group: Sequence[Outcome], tx: RecordedTransaction) -> tuple[list[Outcome], datetime]:
    """Lock the rows of a group. Returns the outcomes of those that are as they were read, and the database's time."""
    prepare = prepare_id()
    by_id: dict[Any, Outcome] = {prepare(outcome.job.id): outcome for outcome in group}
    of_ids, params = bulk.where_in(Job, "id", list(by_id))
    # With a spelling of the state that no index has, the rows are looked up by their ids.
    locking = f"SELECT id, state, version FROM notifications_job WHERE {of_ids} AND state || '' = 'queued' ORDER BY id"
    [locked] = execute_many([(locking + lock_sql(), params)])
    # A call with the same queued key raises the version, and may give the job another expiry.
    ended = []
    for id, state, version in locked:
        outcome = by_id[id]
        if outcome.job.version == version:
            outcome.job.state = state  # also after a try that was rolled back
            ended.append(outcome)
    # Claims look at the jobs behind them.
    streams.ring((), queue=bool(ended))
    return ended, database_now()

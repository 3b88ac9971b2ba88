"""End queued jobs that have not begun by their ``expires_at``.

A claim takes no expired job, whatever its process has ended before. It clears ``expires_at``, so that a queued job with
one has not begun.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from notifications import streams
from notifications.db import bulk
from notifications.db.bulk import lock_sql
from notifications.db.clock import database_now, database_now_sql
from notifications.db.transactions import execute_many, fair_atomic
from notifications.extension import RecordedTransaction
from notifications.extension.calls import do_apart
from notifications.jobs import outcomes
from notifications.jobs.outcomes import Outcome
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import claims, notify_functions
from notifications.jobs.transitions.conditional_updates import prepare_id
from notifications.jobs.transitions.recording import end_jobs
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Jobs that one transaction ends at most.
MAX_JOBS_PER_TRANSACTION = 100

# The index "expiry" has only queued jobs with an expiry.
_WHERE_EXPIRED = "WHERE state = 'queued' AND expires_at <= {now}"


def expired_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``end_expired_jobs`` may find something, and its parameters."""
    now, now_param = database_now_sql()
    # In the order of the index: for EXISTS, which has none, PostgreSQL reads all jobs if many are to expire later.
    first = f"SELECT expires_at FROM notifications_job {_WHERE_EXPIRED.format(now=now)} ORDER BY expires_at LIMIT 1"
    return f"({first}) IS NOT NULL", (now_param,)


def end_expired_jobs() -> bool:
    """End queued jobs that have expired, those first that expired first. Returns whether there may be more.

    Several processes may do so at once: rows that another one holds locked are left to it.
    """
    now, now_param = database_now_sql()
    expired = f"{_WHERE_EXPIRED.format(now=now)} ORDER BY expires_at, id LIMIT {MAX_JOBS_PER_TRANSACTION}"
    jobs = bulk.select_rows(Job, expired, [now_param])
    # Outcomes call translations and the task's policy, so they are made before the transaction.
    policies = {path: policy_at(path) for path in {job.task_path for job in jobs}}
    group = [outcomes.failure(job, policies[job.task_path], "expired") for job in jobs]
    ended = _end_apart(notify_functions.record_apart(group, _end_apart))
    return ended == MAX_JOBS_PER_TRANSACTION


def _end_apart(group: Sequence[Outcome]) -> int:
    """End these jobs, and return how many. One at which a hook of an extension fails holds up no other."""
    return sum(do_apart(_end, group, "end an expired job")) if group else 0


def _end(group: Sequence[Outcome]) -> int:
    group = notify_functions.call_all(group)
    ended = end_jobs(
        lambda tx: _lock_expired(group, tx),
        states=(Job.State.QUEUED,),
        run=partial(fair_atomic, more_follows=len(group) == MAX_JOBS_PER_TRANSACTION),
    )
    if ended:
        logger.info("Ended jobs that have expired: %d", len(ended))
    return len(ended)


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


claims.end_expired_jobs = end_expired_jobs

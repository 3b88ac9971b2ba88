"""Turn what version 0.9.0 has stored into what this version stores, while both run, and after that.

Version 0.9.0 had executors of its own for the jobs of backends with an engine: which of them it had sent to the engine.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from uuid import UUID

from notifications.db.bulk import lock_query
from notifications.db.transactions import connection, database, fair_atomic
from notifications.extension.duty import Condition
from notifications.jobs.claiming.claim_queries import read_ids
from notifications.jobs.claiming.executors import (
    QUARANTINED,
    first_executor,
    stored_executor,
)
from notifications.jobs.claiming.sources import Query, Source, names_of, queued_jobs
from notifications.models import Job

#: The executors of jobs of an engine in version 0.9.0. Its processes go on to store them during the upgrade.
OLD_EXECUTORS = ("engine", "dispatched", "engine_quarantined", "engine_sender")
#: Jobs that one transaction changes at most.
MAX_JOBS_PER_TRANSACTION = 50


def turn_old_executors() -> bool:
    """Give a chunk of the queued jobs of version 0.9.0 their executors. Return whether there may be more."""
    # Found outside the transaction.
    ids = read_ids(_old_jobs(MAX_JOBS_PER_TRANSACTION))
    return bool(ids and fair_atomic(partial(_turn, ids)))


def old_jobs_condition() -> Condition:
    """Return SQL that is true if a queued job has such an executor, and its parameters."""
    sql, params = _old_jobs(1)
    return f"EXISTS ({sql})", params


def _old_jobs(limit: int) -> Query:
    """Return the query for the ids of queued jobs with these executors, which reads no others."""
    names, params = names_of(Source())
    executors = ", ".join(["(%s)"] * len(OLD_EXECUTORS))
    jobs = (
        f"{queued_jobs()} AND backend = alias AND queue_name = name AND executor = old_executor LIMIT {limit}"
    )
    # SQLite has no LATERAL, but a subquery of a join condition may refer to the tables before it.
    of_each = (
        f"LATERAL (SELECT id {jobs}) AS job"
        if connection().vendor == "postgresql"
        else f"notifications_job AS job ON job.id IN (SELECT id {jobs})"
    )
    sql = f"""
        WITH RECURSIVE {names}, executors (old_executor) AS (VALUES {executors})
        SELECT job.id FROM names CROSS JOIN executors CROSS JOIN {of_each} LIMIT {limit}
    """
    return sql, [*params, *OLD_EXECUTORS]


def _turn(ids: list[UUID]) -> bool:
    """Change these jobs if they are still queued. Return whether it changed one."""
    rows = Job.objects.using(database())
    jobs = lock_query(rows.filter(id__in=ids, state=Job.State.QUEUED, executor__in=OLD_EXECUTORS))
    by_executor: dict[str, list[UUID]] = defaultdict(list)
    for job in jobs:
        is_quarantined = job.executor == "engine_quarantined"
        executor = stored_executor(QUARANTINED, job.backend) if is_quarantined else first_executor(job)
        by_executor[executor].append(job.id)
    for executor, found in by_executor.items():
        rows.filter(id__in=found).update(executor=executor)
    return bool(by_executor)

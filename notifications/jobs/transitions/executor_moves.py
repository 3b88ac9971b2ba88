"""Change the executors of queued jobs whose backend has gained or lost its engine. The state stays.

Jobs of an engine that was removed move without ``contrib/engines/``, which the same deploy may remove.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from uuid import UUID

from notifications import streams
from notifications.compat import task_backends
from notifications.db.bulk import lock_query
from notifications.db.transactions import database, fair_atomic
from notifications.extension import hooks
from notifications.jobs.claiming.claim_queries import Query, queued_jobs, read_ids
from notifications.jobs.claiming.executors import ENGINE_EXECUTORS, first_executor
from notifications.jobs.declaring.tasks import has_engine
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job

#: Jobs that one transaction moves at most.
MAX_JOBS_PER_TRANSACTION = 50


def move_to_configured_executors() -> int:
    """Move queued jobs whose backend has gained or lost its engine since they were enqueued; return how many.

    So a backlog goes to the engine, or to the built-in worker, when the setting is changed.
    """
    return hooks.dispatch.move_to_engines() + move_jobs(ENGINE_EXECUTORS, has_engine_now=False)


def move_jobs(executors: Collection[str], *, has_engine_now: bool) -> int:
    """Move queued jobs with these executors whose backend has, or has not, an engine now; return how many.

    A backend that is not in ``TASKS`` any more has no engine.
    """
    moved = 0
    # Found outside the transaction: it reads all queued jobs.
    query = _jobs_of_backends(executors, has_engine_now, MAX_JOBS_PER_TRANSACTION)
    while ids := read_ids(query):
        if not (count := fair_atomic(partial(_move, ids, executors))):
            break
        moved += count
    return moved


def _jobs_of_backends(executors: Collection[str], has_engine_now: bool, limit: int) -> Query:
    """Return the query for the ids of queued jobs with these executors, of backends with an engine or of all others.

    It reads all queued jobs.
    """
    # No backend is named "". Without a name the condition would be no SQL.
    aliases = [alias for alias in task_backends.settings if has_engine(alias)] or [""]
    names, executor_params = (", ".join(["%s"] * len(names)) for names in (aliases, executors))
    condition = f"backend {'IN' if has_engine_now else 'NOT IN'} ({names})"
    sql = f"SELECT id {queued_jobs()} AND executor IN ({executor_params}) AND {condition} LIMIT {limit}"
    return sql, [*executors, *aliases]


def _move(ids: Collection[UUID], executors: Collection[str]) -> int:
    """Change the executor of these jobs to the configured one, if they are still queued. Return how many."""
    rows = Job.objects.using(database()).filter(id__in=ids, state=Job.State.QUEUED, executor__in=executors)
    jobs = list(lock_query(rows.order_by("id")))
    moves = [((first_executor(job.task_path, job.backend),), job) for job in jobs]
    conditional_update("executor=%s, next_dispatch_at=NULL, dispatched_at=NULL", moves, state="queued")
    streams.ring((), queue=bool(jobs))
    return len(jobs)

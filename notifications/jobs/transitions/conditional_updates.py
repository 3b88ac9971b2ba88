"""Lock rows of jobs, and change them by UPDATEs that are conditional on id, fence and state.

Those of running jobs are also conditional on the worker. PostgreSQL may lose the latest claims when it crashes or
fails over (see ``claims.py``), so that another worker claims the job with the same fence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from notifications import streams, times
from notifications.db import bulk
from notifications.db.adapters import adapter
from notifications.db.bulk import lock_sql
from notifications.db.clock import execute_with_now
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, chunks, connection, database, dialect
from notifications.extension import hooks
from notifications.models import Job
from notifications.states import States, sql_list

#: Rows that one transaction changes at most on PostgreSQL, where only those of these jobs and streams are locked.
MAX_ROWS_POSTGRESQL = 200


class ClaimRow(NamedTuple):
    """What changes of a running job are conditional on, as the database returns it."""

    fence: int
    state: str
    worker: Any
    cancel_requested_at: Any
    cancelled_by_other: bool
    version: int
    owner_acted_at: datetime | None


def read_fences(jobs: Iterable[Job], *, lock: bool = True) -> tuple[datetime, dict[UUID, ClaimRow]]:
    """Return the database's time, and by id what the condition of each job's UPDATE is compared with.

    With ``lock`` the rows are locked. Those that another transaction holds are left out: none is waited for.
    """
    prepare = prepare_id()
    ids = {prepare(job.id): job.id for job in jobs}
    condition, params = bulk.where_in(Job, "id", list(ids))
    query = (
        "SELECT id, fence, state, worker, cancel_requested_at, cancelled_by_other, version, owner_acted_at "
        f"FROM notifications_job WHERE {condition}{lock_sql() if lock else ''}"
    )
    rows, now = execute_with_now(query, params)
    found = {ids[id]: ClaimRow(*values) for id, *values in rows}
    for id, row in found.items():
        if row.owner_acted_at is not None:
            found[id] = row._replace(owner_acted_at=times.from_db(row.owner_acted_at, connection()))
    return now, found


class LockedClaims(NamedTuple):
    """The database's time, and rows of jobs by their ids: those that are locked now, and all that exist.

    A worker may have two claims of one job, of which one is void: ask for each.
    """

    now: datetime
    rows: dict[UUID, ClaimRow]
    existing: dict[UUID, ClaimRow]

    def is_void(self, job: Job) -> bool:
        """Return whether the claim that ``job`` stands for does not hold any more."""
        return not _is_claim_valid(self.existing.get(job.id), job)


def lock_claims(jobs: Collection[Job]) -> LockedClaims:
    """Lock the rows of jobs in the caller's transaction, to store something of those whose claims hold.

    A row that another transaction holds is left out: none is waited for.
    """
    now, locked = read_fences(jobs)
    is_complete = len(locked) == len(jobs) or len(locked) == len({job.id for job in jobs})
    return LockedClaims(now, locked, locked if is_complete else read_fences(jobs, lock=False)[1])


def _is_claim_valid(row: ClaimRow | None, job: Job) -> bool:
    """Return whether a job still runs by the claim that ``job`` stands for."""
    if row is None or row.state != Job.State.RUNNING or row.fence != job.fence:
        return False
    # SQLite returns the hex digits.
    is_text = isinstance(row.worker, str) and job.worker
    return bool(row.worker == (job.worker.hex if is_text else job.worker))


def conditional_update(
    assignments: str,
    rows: Sequence[tuple[tuple[Any, ...], Job]],
    *,
    state: str = "running",
) -> None:
    """Change jobs in the order of their ids, each conditional on id, fence and state, and on the worker if they run.

    ``rows`` has the parameters of ``assignments`` and the job, one pair for each job.
    """
    if not rows:
        return
    db = connection()
    key = Job._meta.pk

    def adapt(value: Any) -> Any:
        if isinstance(value, datetime):
            return times.to_db(value, db)
        return key.get_db_prep_value(value, db) if isinstance(value, UUID) else value

    is_running = state == Job.State.RUNNING
    same_worker = f" AND {dialect().is_same('worker', '%s')}" if is_running else ""
    with db.cursor() as cursor:
        cursor.executemany(
            f"UPDATE notifications_job SET {assignments} WHERE id=%s AND fence=%s AND state='{state}'{same_worker}",
            [
                (
                    *(adapt(value) for value in values),
                    *(adapt(job.id), job.fence),
                    *([adapt(job.worker)] if is_running else []),
                )
                for values, job in sorted(rows, key=lambda row: row[1].id)
            ],
        )


def update_locked_rows(
    columns: Sequence[str],
    rows: Sequence[tuple[Sequence[Any], Job]],
    *,
    assignments: Sequence[str] = (),
    states: States = (Job.State.RUNNING,),
    fence: Callable[[Job], int] | None = None,
) -> None:
    """Change jobs whose rows this transaction holds locked, each conditional on id, fence and one of ``states``.

    Like ``conditional_update``, but one statement on PostgreSQL. ``rows`` has the values of ``columns``, as the
    database takes them, and the job, one pair for each job; ``assignments`` are the same for all.
    """
    prepare = prepare_id()
    # By statistics from when nothing was queued PostgreSQL expects no queued rows, and compares each of them with each
    # of ``rows`` in a small table: with 2,000 that took 0.3 ms for each of 100. It has no statistics of an expression.
    state = "state" if states == (Job.State.RUNNING,) else "state || ''"
    bulk.update_rows(
        Job,
        columns,
        ("id", "fence"),
        [(*values, prepare(job.id), fence(job) if fence else job.fence) for values, job in rows],
        assignments=assignments,
        condition=f"{state} IN ({sql_list(states)})",
    )


def store_own_act(ids: Collection[UUID], user: Any, now: datetime) -> None:
    """Store that a user (key) has answered or retried jobs, if that is the owner. Their rows are locked."""
    if user is not None and ids:
        Job.objects.using(database()).filter(id__in=ids, user=user).update(owner_acted_at=now)


def prepare_id() -> Callable[[UUID], Any]:
    """Return a function that converts the id of a job to what the database takes."""
    return adapter(Job._meta.pk, connection()) or (lambda id: id)


def max_rows() -> int:
    """Return how many rows one transaction changes at most."""
    return dialect().rows_per_transaction(MAX_ROWS_POSTGRESQL, one_writer=MAX_ROWS_PER_TRANSACTION)


def chunks_of(ids: Sequence[UUID]) -> Iterable[list[UUID]]:
    """Yield ids in lists of which each is for one transaction."""
    return chunks(ids, max_rows())


def ring_queued(jobs: Sequence[Any]) -> None:
    """Ring, after the commit, for jobs that have joined the queue: their owners, workers and engines.

    ``jobs`` have the owner, the backend and the name of the queue.
    """
    if jobs:
        streams.ring([job.user_id for job in jobs], queue=True)
        hooks.dispatch.wake_after_commit(jobs)


def limit_lock_wait() -> None:
    """Let the transaction wait at most 5 s for a row that another one holds."""
    dialect().limit_lock_wait(connection(), 5)

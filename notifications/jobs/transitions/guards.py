"""Rows of jobs: locked, and changed by UPDATEs that are guarded by id, fence and state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications import times
from notifications.db import bulk
from notifications.db.adapters import adapter
from notifications.db.transactions import connection, database, execute_many
from notifications.models import Attempt, Job

if TYPE_CHECKING:
    from notifications.jobs.transitions.outcomes import Outcome


#: How far a test has moved the clock: see ``notifications.testing.clock``.
clock_offset = timedelta()


def clock() -> datetime:
    """Return the database's time: leases of several machines are compared by one clock."""
    db = connection()
    if db.vendor != "postgresql":
        return times.now() + clock_offset
    with db.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return times.from_db(cursor.fetchone()[0], db) + clock_offset


def clock_clause() -> tuple[str, Any]:
    """Return SQL for ``clock()``, and its parameter, for a statement that then asks no second time."""
    db = connection()
    if db.vendor != "postgresql":
        return "%s", times.to_db(clock(), db)
    # A query of its own is made once. A function that is called for each row could not be looked up in an index.
    return "(SELECT clock_timestamp() + %s)", clock_offset


def locked(rows: Any, *, skip: bool = True) -> Any:
    """Return a query of rows that locks them; what somebody else holds is skipped, or waited for."""
    features = connection().features
    if not features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=skip, no_key=features.has_select_for_no_key_update)


def lock_clause() -> str:
    """Return what ``locked`` appends to a query; rows that somebody else holds are skipped."""
    lock = connection().features.has_select_for_update_skip_locked
    return " FOR NO KEY UPDATE SKIP LOCKED" if lock else ""


def guards(
    jobs: Iterable[Job], *, lock: bool = True
) -> tuple[datetime, dict[UUID, tuple[int, str, Any, bool]]]:
    """Return ``clock()`` and, by id, what guards jobs as they are now: fence, state, when and whether by somebody else
    they are to end.

    They are locked by id, and what somebody else holds is left out, unless without ``lock``.
    """
    prepare = _prepare()
    ids = {prepare(job.id): job.id for job in jobs}
    these, params = bulk.where_in(Job, "id", list(ids))
    query = (
        "SELECT id, fence, state, cancel_requested_at, cancelled_by_other FROM notifications_job "
        f"WHERE {these} ORDER BY id{lock_clause() if lock else ''}"
    )
    if connection().vendor == "postgresql":
        found, [(now,)] = execute_many([(query, params), ("SELECT clock_timestamp()", [])])
        now = times.from_db(now, connection()) + clock_offset
    else:
        [found], now = execute_many([(query, params)]), clock()
    return now, {ids[id]: tuple(rest) for id, *rest in found}  # type: ignore[misc]


def guarded_update(
    assignments: str,
    rows: Sequence[tuple[tuple[Any, ...], Job]],
    *,
    state: str = "running",
    fence: Any = None,
) -> None:
    """Change jobs, each guarded by id, fence and state."""
    if not rows:
        return
    db = connection()
    key = Job._meta.pk

    def adapt(value: Any) -> Any:
        if isinstance(value, datetime):
            return times.to_db(value, db)
        return key.get_db_prep_value(value, db) if isinstance(value, UUID) else value

    with db.cursor() as cursor:
        cursor.executemany(
            f"UPDATE notifications_job SET {assignments} WHERE id=%s AND fence=%s AND state='{state}'",
            [
                (*(adapt(value) for value in values), adapt(job.id), fence(job) if fence else job.fence)
                for values, job in sorted(rows, key=lambda row: row[1].id)
            ],
        )


def update_held(
    columns: Sequence[str],
    rows: Sequence[tuple[Sequence[Any], Job]],
    *,
    also: Sequence[str] = (),
    state: str = "running",
    fence: Any = None,
) -> None:
    """Change jobs that this transaction holds locked, each guarded by id, fence and state."""
    prepare = _prepare()
    bulk.update(
        Job,
        columns,
        ("id", "fence"),
        [(*values, prepare(job.id), fence(job) if fence else job.fence) for values, job in rows],
        also=also,
        only=f"state = '{state}'",
    )


def insert_attempts(rows: Iterable[tuple[Job, Outcome | None, datetime]]) -> None:
    """Record attempts that did not succeed; one without an outcome lost its worker."""
    Attempt.objects.using(database()).bulk_create(
        [
            Attempt(
                job_id=job.id,
                number=job.attempt,
                worker=job.worker,
                started_at=job.started_at,
                ended_at=now,
                outcome=outcome.attempt if outcome else Attempt.Outcome.LOST,
                exception_class_path=outcome.exception_class_path if outcome else "",
                traceback=outcome.traceback if outcome else "",
            )
            for job, outcome, now in rows
        ]
    )


def _prepare() -> Callable[[UUID], Any]:
    """Return what makes the id of a job one that the database takes."""
    return adapter(Job._meta.pk, connection()) or (lambda id: id)

"""Lock rows of jobs, and change them by UPDATEs that are conditional on id, fence and state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications import times
from notifications.db import bulk, clock
from notifications.db.adapters import adapter
from notifications.db.clock import database_now
from notifications.db.locks import lock_sql
from notifications.db.transactions import connection, database, execute_many
from notifications.models import Attempt, Job
from notifications.states import States, sql_list

if TYPE_CHECKING:
    from notifications.jobs.outcomes import Outcome
    from notifications.statistics.recording import StatisticsBuffer


def read_fences(
    jobs: Iterable[Job], *, lock: bool = True
) -> tuple[datetime, dict[UUID, tuple[int, str, Any, bool, int]]]:
    """Return the database's time, and what the condition of each job's UPDATE is compared with.

    By id: fence, state, ``cancel_requested_at``, ``cancelled_by_other`` and version. With ``lock`` the rows are locked
    in the order of their ids, and rows that another transaction holds are left out.
    """
    prepare = prepare_id()
    ids = {prepare(job.id): job.id for job in jobs}
    condition, params = bulk.where_in(Job, "id", list(ids))
    query = (
        "SELECT id, fence, state, cancel_requested_at, cancelled_by_other, version FROM notifications_job "
        f"WHERE {condition} ORDER BY id{lock_sql() if lock else ''}"
    )
    if connection().vendor == "postgresql":
        rows, [(now,)] = execute_many([(query, params), (clock.NOW_SQL, [])])
        now = clock.from_row(now)
    else:
        [rows], now = execute_many([(query, params)]), database_now()
    return now, {ids[id]: tuple(values) for id, *values in rows}  # type: ignore[misc]


def conditional_update(
    assignments: str,
    rows: Sequence[tuple[tuple[Any, ...], Job]],
    *,
    state: str = "running",
    fence: Callable[[Job], int] | None = None,
) -> None:
    """Change jobs in the order of their ids, each conditional on id, fence and state.

    ``rows`` has the parameters of ``assignments`` and the job, one pair for each job. ``fence`` returns the fence that
    the row must have; that of the job by default.
    """
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
    bulk.update(
        Job,
        columns,
        ("id", "fence"),
        [(*values, prepare(job.id), fence(job) if fence else job.fence) for values, job in rows],
        assignments=assignments,
        condition=f"state IN ({sql_list(states)})",
    )


def insert_attempts(
    rows: Iterable[tuple[Job, Outcome | None, datetime]], statistics: StatisticsBuffer
) -> None:
    """Insert attempts that did not succeed: job, outcome and end. An attempt without an outcome lost its worker.

    They are added to ``statistics``, which the caller writes at the end of the transaction.
    """
    rows = list(rows)
    for job, outcome, ended_at in rows:
        statistics.add_attempt(job, outcome, ended_at)
    Attempt.objects.using(database()).bulk_create(
        [
            Attempt(
                job_id=job.id,
                number=job.attempt,
                worker=job.worker,
                started_at=job.started_at,
                ended_at=ended_at,
                outcome=outcome.attempt if outcome else Attempt.Outcome.LOST,
                exception_class_path=outcome.exception_class_path if outcome else "",
                traceback=outcome.traceback if outcome else "",
                location=outcome.location if outcome else "",
            )
            for job, outcome, ended_at in rows
        ]
    )


def prepare_id() -> Callable[[UUID], Any]:
    """Return a function that converts the id of a job to what the database takes."""
    return adapter(Job._meta.pk, connection()) or (lambda id: id)

"""Put running jobs back into the queue, and have scheduled jobs join it.

A scheduled job has a time, ``due_at``, and no claim sees it. When it is due it gets its share and turn as a new job, so
all that wait stand in one order. Workers do that by a timer (``worker/due_jobs.py``), servers as a duty.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from notifications import streams, times
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now, database_now_sql, now_column, now_from_column
from notifications.db.transactions import connection, database, fair_atomic, retrying_atomic
from notifications.jobs import turns
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.executors import executor_at
from notifications.jobs.claiming.sources import read_moment
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.conditional_updates import (
    conditional_update,
    max_rows,
    ring_queued,
    update_locked_rows,
)
from notifications.jobs.transitions.running import ClaimedJob
from notifications.jobs.turns import TURN_COLUMNS
from notifications.models import Job

#: Seconds until a job that this worker could not begin may be claimed again.
REQUEUE_DELAY_SECONDS = 30
#: Seconds after which a job fails whose task no worker knows, from when the first worker met it.
UNKNOWN_TASK_FAILS_SECONDS = 24 * 3600
#: The same of a job whose arguments its task does not take: all workers may have the wrong call of one version.
UNKNOWN_CALL_FAILS_SECONDS = 3600
#: A job that is claimed so long after it was due was stored by another clock, or no worker was there to try it.
MAX_UNTRIED = timedelta(hours=1)
#: Seconds until scheduled jobs are looked at again that are due, and whose rows other transactions hold.
LOCKED_PAUSE_SECONDS = 0.02
#: What is read of scheduled jobs that join the queue.
DUE_COLUMNS = ("id", "user_id", "fence", "task_path", *TURN_COLUMNS)
#: Due jobs among which a chunk takes those of other shares: those that are due longest, and the last ones.
MAX_OLDEST_DUE, MAX_NEWEST_DUE = 10_000, 1_000
#: Of 10,000 due jobs reading those of other shares takes 8 to 20 ms. For so many times as long it is not done again,
#: in which chunks are moved, and jobs claimed.
READ_PAUSE_FACTOR = 4

#: When they are read again (monotonic).
_next_read_at = 0.0
#: What takes turns with others: a share in one queue, executor and priority.
_SHARE = "backend, queue_name, executor, priority, share_name"
_SCHEDULED = "FROM notifications_job WHERE state = 'queued' AND due_at IS NOT NULL"


class RetryOptions(NamedTuple):
    """The options of ``retry()``."""

    by: Any
    passes_over_full: bool
    from_start: bool


def requeue(
    jobs: Sequence[Job], assignments: str, values: tuple[Any, ...] = (), *, queue: bool = False
) -> None:
    """Queue running jobs again whose attempts did not fail, and ring for their owners, with ``queue`` for workers too.

    Those whose tasks were not called expire as before: they have their ``expires_at``. ``values`` are those of
    ``assignments``, which change other columns.
    """
    rows = [((job.expires_at, *values), job) for job in jobs]

    def write() -> None:
        conditional_update(
            f"state='queued', expires_at=%s, worker=NULL, version=version+1, {assignments}", rows
        )
        if queue:
            ring_queued(jobs)
        else:
            streams.ring(job.user_id for job in jobs)

    if jobs:
        retrying_atomic(write)


def release(jobs: Sequence[Job]) -> None:
    """Queue running jobs of this worker again, as at a shutdown. The attempt does not count."""
    requeue(jobs, "attempt=attempt-1, deadline=NULL, fail_if_unknown_after=NULL", queue=True)


def requeue_unknown_task(
    claimed: ClaimedJob, fails_after_seconds: float = UNKNOWN_TASK_FAILS_SECONDS
) -> bool:
    """Queue a job again whose task, or whose arguments, this worker does not know: one with newer code may.

    The attempt does not count. Returns False, and changes nothing, if the first worker met the job over
    ``fails_after_seconds`` ago.
    """
    # Counted from the first worker: created_at and queued_at would include the delay of a job for later, and run_after
    # moves with each requeue.
    now = database_now()
    fail_if_unknown_after = _fail_if_unknown_after(claimed.row, now, timedelta(seconds=fails_after_seconds))
    if fail_if_unknown_after < now:
        return False
    run_after = now + timedelta(seconds=REQUEUE_DELAY_SECONDS)
    assignments = "attempt=attempt-1, deadline=NULL, run_after=%s, due_at=%s, fail_if_unknown_after=%s"
    requeue([claimed.row], assignments, (run_after, run_after, fail_if_unknown_after))
    return True


def _fail_if_unknown_after(job: Job, now: datetime, longest: timedelta) -> datetime:
    """Return when a job fails that no worker can call, whatever a clock said when that was stored.

    It was stored with the time at which the job was due again, by one reading of the clock, so the difference is right.
    """
    stored, due_at = job.fail_if_unknown_after, job.run_after
    if stored is None or due_at is None:
        return now + longest
    if timedelta(0) <= now - due_at <= MAX_UNTRIED and stored <= times.latest_possible(now, longest):
        return stored
    return now + min(max(stored - due_at, timedelta(0)), longest)


def requeue_without_thread(job: Job) -> None:
    """Queue a sync job again for which this worker has no thread: another worker may. The attempt does not count."""
    assert job.started_at, "The job was not claimed."
    # By the clock of the claim, so that a time that was stored while the clock was wrong is found by started_at.
    run_after = job.started_at + timedelta(seconds=REQUEUE_DELAY_SECONDS)
    assignments = "attempt=attempt-1, deadline=NULL, fail_if_unknown_after=NULL, run_after=%s, due_at=%s"
    requeue([job], assignments, (run_after, run_after))


def requeue_late_start(job: Job) -> None:
    """Queue a job again that has begun too late to be counted by its limit, before those that wait for it."""
    assignments = "attempt=attempt-1, deadline=NULL, fail_if_unknown_after=NULL, limit_turn=%s"
    requeue([job], assignments, (job.limit_turn or 0,), queue=True)


def schedule_retries(group: Sequence[Outcome], now: datetime) -> None:
    """Queue jobs again whose attempts failed; those with a ``retry_delay`` are scheduled until it is over.

    Inside the transaction that records the outcomes and holds the rows locked.
    """
    for outcome in group:
        job, delay = outcome.job, timedelta(seconds=outcome.retry_delay or 0)
        job.state, job.run_after = Job.State.QUEUED, now + delay
        job.due_at = job.run_after if delay else None
        job.progress_current, job.progress_total, job.progress_message = None, None, ""
        # The attempt of a quarantined job ended by itself, so it is not what ends processes.
        job.executor = executor_at(job.task_path)
    jobs = [outcome.job for outcome in group]
    turns.assign_places(jobs)
    conditional_update(
        "state='queued', run_after=%s, due_at=%s, share_name=%s, turn=%s, executor=%s, worker=NULL, deadline=NULL, "
        "fail_if_unknown_after=NULL, version=version+1, progress_current=NULL, progress_total=NULL, "
        "progress_message='', retries=retries+%s, max_attempts=max_attempts+%s",
        [
            (
                (
                    *(job.run_after, job.due_at, job.share_name, job.turn, job.executor),
                    *[int(outcome.is_requested)] * 2,
                ),
                job,
            )
            for outcome, job in zip(group, jobs, strict=True)
        ],
    )
    # The next job of the same key or queue may begin now.
    has_limits = candidates.has_limited_jobs(jobs)
    streams.ring([job.user_id for job in jobs], queue=has_limits)
    ring_queued([job for job in jobs if job.due_at is None])


def queue_due_jobs() -> float | None:
    """Have scheduled jobs that are due join the queue, as many as one transaction changes: one chunk.

    Returns the seconds until the next one is due, 0 if there may be more of them now. None: no job is scheduled.

    On PostgreSQL the commit does not wait for the disk, as that of a claim. What a crash of the server takes back is
    scheduled as before, and due: its claim, which was committed later, is taken back too.
    """
    seconds, has_many = _read_schedule()
    if seconds != 0:
        return seconds
    others = _due_of_other_shares() if has_many and time.monotonic() >= _next_read_at else []
    moved = fair_atomic(lambda: _queue_due_jobs(others), is_durable=False)
    return 0.0 if moved else LOCKED_PAUSE_SECONDS


def _read_schedule() -> tuple[float | None, bool]:
    """Return the seconds until the next scheduled job is due, and whether more are due than one chunk has."""
    now, param = database_now_sql()
    first = f"SELECT due_at {_SCHEDULED} ORDER BY due_at, id LIMIT 1"
    more = f"SELECT 1 {_SCHEDULED} AND due_at <= {now} ORDER BY due_at, id LIMIT 1 OFFSET {max_rows()}"
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT ({first}), ({more}), {now_column()}", [param])
        first_at, has_more, moment = cursor.fetchone()
    if (due_at := read_moment(first_at)) is None:
        return None, False
    return max(0.0, (due_at - now_from_column(moment)).total_seconds()), has_more is not None


def _due_of_other_shares() -> list[Any]:
    """Return the ids of due jobs of other shares than those that are due longest, at most one chunk.

    The first of each share in each queue, executor and priority, then the second of each. Without them a job would
    wait until all that were due before it have joined the queue: those of 10,000 of one owner take 2.5 s on SQLite.
    """
    global _next_read_at
    began = time.monotonic()
    now, param = database_now_sql()
    due = f"SELECT id, due_at, {_SHARE} {_SCHEDULED} AND due_at <= {now}"
    has_newer = (
        f"(SELECT true {_SCHEDULED} AND due_at <= {now} ORDER BY due_at LIMIT 1 OFFSET {MAX_OLDEST_DUE})"
    )
    newest = f"{due} AND {has_newer} ORDER BY due_at DESC, id DESC LIMIT {MAX_NEWEST_DUE}"
    sql = f"""
        WITH first AS (SELECT {_SHARE} FROM ({due} ORDER BY due_at, id LIMIT {max_rows()}) AS chunk),
        others AS (
            SELECT * FROM ({due} ORDER BY due_at, id LIMIT {MAX_OLDEST_DUE}) AS oldest
            WHERE ({_SHARE}) NOT IN (SELECT {_SHARE} FROM first)
            UNION ALL SELECT * FROM ({newest}) AS newest
            WHERE ({_SHARE}) NOT IN (SELECT {_SHARE} FROM first)
        )
        SELECT id FROM (
            SELECT id, due_at, row_number() OVER (PARTITION BY {_SHARE} ORDER BY due_at, id) AS place
            FROM others
        ) AS placed ORDER BY place, due_at LIMIT {max_rows()}
    """
    with connection().cursor() as cursor:
        cursor.execute(sql, [param] * 4)
        ids = [id for (id,) in cursor.fetchall()]
    ended = time.monotonic()
    _next_read_at = ended + READ_PAUSE_FACTOR * (ended - began)
    return ids


def _queue_due_jobs(others: Collection[Any]) -> int:
    """Queue these jobs that are due, and those that are due longest."""
    due = Job.objects.using(database()).filter(due_at__lte=database_now())

    def lock(**condition: Any) -> list[Any]:
        rows = lock_query(due.filter(**condition).order_by("due_at", "id"))[: max_rows()]
        return list(rows.values_list(*DUE_COLUMNS, named=True))

    jobs = lock(state=Job.State.QUEUED)
    if others:
        # iexact matches no index of queued jobs: these are found by their ids.
        known = {job.id for job in jobs}
        jobs += [job for job in lock(state__iexact=Job.State.QUEUED, id__in=others) if job.id not in known]
    places = turns.next_places(jobs, [job.executor for job in jobs])
    update_locked_rows(
        ("share_name", "turn"),
        list(zip(places, jobs, strict=True)),
        assignments=("due_at = NULL", "version = version + 1"),
        states=(Job.State.QUEUED,),
    )
    ring_queued(jobs)
    return len(jobs)


def due_jobs_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``queue_due_jobs()`` finds something, and its parameters."""
    now, param = database_now_sql()
    # With an order, for which PostgreSQL reads the index whatever its statistics say.
    return f"(SELECT due_at {_SCHEDULED} AND due_at <= {now} ORDER BY due_at LIMIT 1) IS NOT NULL", (param,)

"""Queue failed and cancelled jobs again, by hand: ``manual.retry()``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from notifications import streams, times
from notifications.db.bulk import lock_query
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    connection,
    database,
    fair_atomic,
    retrying_atomic,
)
from notifications.extension import hooks
from notifications.jobs import limits
from notifications.jobs.claiming.executors import first_executor
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import batch_completion
from notifications.jobs.transitions.conditional_updates import conditional_update, update_locked_rows
from notifications.jobs.transitions.finishing import finish_batches
from notifications.jobs.transitions.waiting import delete_waits
from notifications.models import Job
from notifications.states import RETRYABLE

#: Rows that one transaction changes at most on PostgreSQL, where only those of these jobs and streams are locked.
MAX_ROWS_POSTGRESQL = 200
#: What is read of jobs that are retried, and what is set for all of them.
RETRY_COLUMNS = ("id", "user_id", "task_path", "backend", "state", "attempt", "fence")
RETRY_ASSIGNMENTS = (
    *("state = 'queued'", "seq = 0", "version = version + 1", "fence = fence + 1", "run_after = NULL"),
    *("worker = NULL", "deadline = NULL", "fail_if_unknown_after = NULL", "result = NULL", "error = NULL"),
    "finished_at = NULL",
    *("cancel_requested_at = NULL", "cancelled_by_other = FALSE", "progress_current = NULL"),
    *("progress_total = NULL", "progress_message = ''"),
)


def retry(ids: Sequence[UUID], passes_over_full: bool, from_start: bool) -> list[UUID]:
    """Queue jobs again, and the batches that they are of: see ``manual.retry``."""
    queued = _retry_jobs(ids, passes_over_full, from_start)
    # The batches of these jobs run again too, at any depth.
    for chunk in chunks_of(queued):
        jobs = chunk
        while jobs := _batches_of(jobs):
            for batch in jobs:
                _reopen_batch(batch)
    return queued


def _retry_jobs(ids: Sequence[UUID], passes_over_full: bool, from_start: bool) -> list[UUID]:
    queued: list[UUID] = []
    for chunk in chunks_of(ids):
        rows = Job.objects.using(database()).filter(id__in=chunk, state__in=RETRYABLE).order_by("id")
        rows = rows.exclude(executor=Job.Executor.OBSERVED)  # only Celery can run these
        jobs = list(rows.values_list(*RETRY_COLUMNS, named=True))
        if batches := [job for job in jobs if batch_completion.is_batch(job)]:
            rows = rows.exclude(id__in=[job.id for job in batches])
            queued += [job.id for job in batches if _retry_batch(job, passes_over_full, from_start)]
        # Reading a policy may import the task's module, so it is done before the transaction.
        tasks = {
            (path, backend): (policy_at(path).max_attempts, first_executor(path, backend))
            for path, backend in {(job.task_path, job.backend) for job in jobs if job not in batches}
        }
        queued += fair_atomic(
            lambda rows=rows, tasks=tasks: _queue_again(rows, tasks, passes_over_full, from_start)  # type: ignore[misc]
        )
    return queued


def _queue_again(
    rows: Any, tasks: dict[tuple[str, str], tuple[int, str]], passes_over_full: bool, from_start: bool
) -> list[UUID]:
    """Queue jobs again. ``tasks`` has, by task path and backend, the number of further attempts and the executor."""
    limit_lock_wait()
    now = times.to_db(times.now(), connection())
    # Without instances of the model, which take half of the time for which SQLite's lock is held.
    locked = lock_query(rows, skip_locked=False).values_list(*RETRY_COLUMNS, named=True)
    jobs = [job for job in locked if (job.task_path, job.backend) in tasks]
    owned = Counter(job.user_id for job in jobs if job.user_id is not None)
    if passes_over_full:
        places = limits.read_places(owned)
        jobs = [job for job in jobs if job.user_id is None or _take_place(places, job.user_id)]
    else:
        for user, count in owned.items():
            limits.raise_if_exceeded(user, count)
    for state in map(str, RETRYABLE):
        update_locked_rows(
            ("max_attempts", "executor", "queued_at"),
            [
                ((job.attempt + attempts, executor, now), job)
                for job in jobs
                if job.state == state
                for attempts, executor in (tasks[job.task_path, job.backend],)
            ],
            assignments=RETRY_ASSIGNMENTS,
            states=(state,),
        )
    ids = [job.id for job in jobs]
    delete_waits(ids, from_start=from_start)
    for hook in hooks.on_retried:
        hook(ids, from_start=from_start)
    streams.ring([job.user_id for job in jobs], queue=bool(jobs))
    return ids


def _take_place(places: dict[Any, int], user: Any) -> bool:
    """Return whether a user may have one more active job, and count it."""
    places[user] -= 1
    return places[user] >= 0


def _retry_batch(batch: Job, passes_over_full: bool, from_start: bool) -> bool:
    """Retry the failed and cancelled jobs of a batch, and have it run again. Returns whether it does."""
    if batch.user_id is not None:
        # Before a job of the batch is queued.
        if not passes_over_full:
            limits.raise_if_exceeded(batch.user_id)
        elif not limits.read_places([batch.user_id])[batch.user_id]:
            return False
    jobs = Job.objects.using(database()).filter(batch=batch.id, state__in=RETRYABLE)
    # The jobs first: a running batch without an active job is ended by any worker.
    ids = list(jobs.order_by("id").values_list("id", flat=True))
    if ids and not _retry_jobs(ids, passes_over_full, from_start):
        return False  # all were passed over, so it would end again as it is
    return _reopen_batch(batch.id)


def _reopen_batch(batch: UUID) -> bool:
    """Have a failed or cancelled batch run again, and end it if its jobs are done. Returns whether it ran again."""
    now = times.now()

    def write() -> bool:
        limit_lock_wait()
        rows = Job.objects.using(database()).filter(id=batch, state__in=RETRYABLE)
        jobs = list(lock_query(rows, skip_locked=False))
        for job in jobs:
            conditional_update(
                "state='running', seq=0, version=version+1, fence=fence+1, attempt=attempt+1, max_attempts=attempt+1, "
                "queued_at=%s, started_at=%s, result=NULL, error=NULL, finished_at=NULL, "
                "cancel_requested_at=NULL, cancelled_by_other=%s, progress_current=0, progress_message=''",
                [((now, now, False), job)],
                state=job.state,
            )
            streams.ring([job.user_id])
        return bool(jobs)

    is_reopened = retrying_atomic(write)
    finish_batches([batch])
    return is_reopened


def _batches_of(ids: Sequence[UUID]) -> list[UUID]:
    batches = Job.objects.using(database()).filter(id__in=ids).values_list("batch", flat=True)
    return sorted({batch for batch in batches if batch is not None})


def chunks_of(ids: Sequence[UUID]) -> Iterable[list[UUID]]:
    """Yield ids in lists of which each is for one transaction."""
    rows = MAX_ROWS_PER_TRANSACTION if connection().vendor == "sqlite" else MAX_ROWS_POSTGRESQL
    return (list(ids[start : start + rows]) for start in range(0, len(ids), rows))


def limit_lock_wait() -> None:
    """Let PostgreSQL wait at most 5 s for a row that another transaction holds."""
    db = connection()
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")

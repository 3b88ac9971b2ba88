"""Move the jobs of observed Celery tasks as Celery's signals, or its result backend, report them.

Celery decides when such a task runs, and its worker executes it. So each start, also a redelivery of the same message,
raises the fence: of two executions of one message only the later one is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from notifications import streams
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.extension import RecordedTransaction
from notifications.jobs import outcomes
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import queueing
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.jobs.transitions.recording import end_jobs, finish_jobs, record_attempts, run_recording
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: How often the result backend is asked for the end of a task that others replace.
REPLACED_CHECK_INTERVAL = timedelta(seconds=15)


def schedule_retry(outcome: Outcome, start_within: timedelta | None) -> bool:
    """Record a failed attempt that Celery follows with another one. Returns False if the row is locked: try again.

    If the next attempt has begun already, only the failed one is recorded. If it has not begun ``start_within`` after
    it could have, the job ends.
    """
    job = outcome.job
    left = job.state

    def write(tx: RecordedTransaction) -> bool | None:
        locked = lock_query(Job.objects.using(database()).filter(id=job.id), skip_locked=False).first()
        if locked is None or locked.cancel_requested_at is not None:
            return None
        now = tx.now = database_now()
        if (locked.fence, locked.state) == (job.fence, left):
            record_attempts([outcome], tx)
            queueing.schedule_retries([outcome], now)
            expires_at = job.run_after + start_within if start_within else None
            conditional_update("expires_at=%s, process_id=NULL", [((expires_at,), job)], state="queued")
        elif locked.fence > job.fence and locked.attempt > job.attempt:
            record_attempts([outcome], tx)
        return True

    # With a requested cancellation the job ends.
    return run_recording(write) or finish(outcome)


def requeue(job: Job) -> None:
    """Queue a running job again whose message went back to the broker, without an attempt that failed."""
    queueing.requeue([job], "process_id=NULL")


def requeue_replaced(job: Job) -> None:
    """Queue a running job again that goes on with other tasks, of which the last one may not be observed.

    The result backend is asked for its end, until one of them starts. Its ``process_id`` says that.
    """
    job.expires_at = database_now() + REPLACED_CHECK_INTERVAL
    queueing.requeue([job], "deadline=NULL")


def check_replaced_later(job: Job) -> None:
    """Ask the result backend for the end of a replaced task again, later."""
    expires_at = database_now() + REPLACED_CHECK_INTERVAL
    retrying_atomic(lambda: conditional_update("expires_at=%s", [((expires_at,), job)], state="queued"))


def requeue_lost(job: Job, start_within: timedelta | None) -> None:
    """Queue a job whose worker was lost, and whose message the broker delivers again.

    If it has not begun ``start_within`` after that, it ends.
    """

    def write(tx: RecordedTransaction) -> None:
        locked = lock_query(Job.objects.using(database()).filter(_is_unchanged(job))).first()
        if locked is None:
            return
        now = tx.now = database_now()
        record_attempts([outcomes.interrupted(locked)], tx)
        expires_at = now + start_within if start_within else None
        assignments = "state='queued', worker=NULL, process_id=NULL, version=version+1, expires_at=%s"
        conditional_update(assignments, [((expires_at,), locked)])
        streams.ring([locked.user_id])

    run_recording(write)


def requeue_guesses(jobs: Sequence[Job]) -> None:
    """Queue jobs again that have failed by a guess, because their real ends are known. Changes them as their rows.

    Inside a transaction that holds the rows locked. The fence is raised, so that the next end is no first one: its
    notification archives that of the guess.
    """
    conditional_update(
        "state='queued', seq=0, version=version+1, fence=fence+1, worker=NULL, run_after=NULL, "
        "result=NULL, error=NULL, finished_at=NULL",
        [((), job) for job in jobs],
        state="failed",
    )
    for job in jobs:
        logger.warning("Corrected a guess: job %s, %s", job.id, outcomes.error_type(job.error))
        job.state, job.seq, job.worker, job.run_after, job.error = Job.State.QUEUED, 0, None, None, None
        job.finished_at, job.fence, job.version = None, job.fence + 1, job.version + 1


def finish(outcome: Outcome) -> bool:
    """Record the outcome of a job as its state was read. Returns False if its row is locked: try again.

    An outcome whose job has changed since it was read is void, which is no error.
    """
    if outcome.job.state == Job.State.RUNNING:
        return bool(finish_jobs([outcome]))
    return _finish_queued(outcome)


def read(id: UUID) -> Job | None:
    """Return a job of an observed task that is not done, or has failed by a guess."""
    job = Job.objects.using(database()).filter(id=id, executor=Job.Executor.OBSERVED).first()
    return job if job and (not job.done or outcomes.is_guess(job)) else None


def _finish_queued(outcome: Outcome) -> bool:
    """Record the end of a job that was not started, waited for its next attempt, or has failed by a guess."""
    job = outcome.job

    def lock_row(tx: RecordedTransaction) -> tuple[list[Outcome], datetime]:
        rows = Job.objects.using(database()).filter(_is_unchanged(job))
        row = lock_query(rows, skip_locked=False).first()
        if row is None:
            return [], database_now()
        if outcomes.is_guess(row):
            if outcomes.error_type(row.error) == outcomes.error_type(outcome.error):
                return [], database_now()  # nothing new for the owner
            requeue_guesses([row])
            return [replace(outcome, job=row)], database_now()
        return [outcome], database_now()

    end_jobs(lock_row, states=(Job.State.QUEUED,))
    return True


def _is_unchanged(job: Job) -> Q:
    return Q(id=job.id, fence=job.fence, state=job.state)

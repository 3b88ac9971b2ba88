"""Put running jobs back into the queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from notifications import streams, times
from notifications.db.clock import database_now
from notifications.db.transactions import retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.executors import executor_at
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.claimed_jobs import ClaimedJob
from notifications.jobs.transitions.conditional_updates import conditional_update, ring_queued
from notifications.jobs.turns import assign_places
from notifications.models import Job

#: Seconds until a job that this worker could not begin may be claimed again.
REQUEUE_DELAY_SECONDS = 30
#: Seconds after which a job fails whose task no worker knows, from when the first worker met it.
UNKNOWN_TASK_FAILS_SECONDS = 24 * 3600
#: The same of a job whose arguments its task does not take: all workers may have the wrong call of one version.
UNKNOWN_CALL_FAILS_SECONDS = 3600
#: A job that is claimed so long after it was due was stored by another clock, or no worker was there to try it.
MAX_UNTRIED = timedelta(hours=1)


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
    assign_places(jobs)
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

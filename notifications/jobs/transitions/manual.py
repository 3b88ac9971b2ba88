"""Cancel jobs, retry them and run them now, by hand: from a page, the API, the admin or a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications import streams, times
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    connection,
    database,
    fair_atomic,
    in_callers_transaction,
    on_commit,
    retrying_atomic,
)
from notifications.jobs import observations
from notifications.jobs.claiming.lanes import HANDED, first_lane
from notifications.jobs.enqueueing import active_limit
from notifications.jobs.recording_receivers import TransactionLost
from notifications.jobs.results import policy_at
from notifications.jobs.statistics.recording import Tally
from notifications.jobs.transitions import batch_completion, outcomes
from notifications.jobs.transitions.finishing import finish_batches, send_signals
from notifications.jobs.transitions.guards import database_now, guarded_update, lock_query
from notifications.jobs.transitions.outcomes import Outcome
from notifications.jobs.transitions.recording import owners_of, write_ends
from notifications.jobs.transitions.transaction_receivers import (
    reset_lost_connection,
    retry_lost_transaction,
)
from notifications.models import Job

ACTIVE_STATES = (Job.State.QUEUED, Job.State.RUNNING)
RETRYABLE_STATES = (Job.State.FAILED, Job.State.CANCELLED)


def can_retry(job: Job) -> bool:
    """Return whether a job can be retried by hand. The job of an observed task cannot: only Celery can run it."""
    return job.state in RETRYABLE_STATES and job.lane != Job.Lane.OBSERVED


def cancel(ids: Iterable[UUID], *, by: Any = None) -> dict[UUID, str]:
    """Cancel queued jobs, and request the cancellation of running ones.

    ``by``
        The key of the user who cancels, or None. The owner of a job is notified unless it is the same user.

    Returns ``"cancelled"`` or ``"asked"`` for each job; jobs that are done or do not exist are left out. Inside a
    caller's transaction jobs are cancelled after its commit. Raises ``django.db.OperationalError`` where another
    transaction holds a row for over 5 s.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: _cancel(ids, by))
        return dict.fromkeys(ids, "asked")
    return _cancel(ids, by)


def retry(ids: Iterable[UUID]) -> list[UUID]:
    """Queue failed and cancelled jobs again, with as many more attempts as the policies of their tasks allow.

    Returns the ids of the queued jobs. Inside a caller's transaction jobs are queued after its commit. Raises
    ``TooManyJobs``, and ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: _retry(ids))
        return ids
    return _retry(ids)


def run_now(ids: Iterable[UUID]) -> list[UUID]:
    """Make jobs that wait for a time claimable at once. Returns the ids of those that waited.

    Inside a caller's transaction it is done after its commit. Raises ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: _run_now(ids))
        return ids
    return _run_now(ids)


def cancellations_requested(worker: UUID) -> list[tuple[UUID, int, bool]]:
    """Return id, fence and ``cancelled_by_other`` of the running jobs of a worker that are to be cancelled."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    requested = running.filter(cancel_requested_at__isnull=False)
    return list(requested.values_list("id", "fence", "cancelled_by_other"))


def resume_batch_cancellations() -> None:
    """Cancel the jobs of batches whose cancellation was interrupted. Workers call this once a second."""
    requested = batch_completion.running_batches().filter(cancel_requested_at__isnull=False)
    if batches := list(requested.values_list("id", flat=True)):
        _cancel_jobs_of(batches, None)


def _cancel(ids: Sequence[UUID], by: Any) -> dict[UUID, str]:
    results: dict[UUID, str] = {}
    for chunk in _chunks(ids):
        remaining = chunk
        while remaining:
            try:
                remaining = _cancel_chunk(remaining, by, results)
            except TransactionLost as exc:
                reset_lost_connection(exc)
                remaining = [left for id in remaining for left in _cancel_one(id, by, results)]
    if requested := [id for id, result in results.items() if result == "asked"]:
        _cancel_jobs_of(requested, by)
    return results


def _cancel_jobs_of(batches: Sequence[UUID], by: Any) -> None:
    """Cancel the jobs inside batches. Ids of other jobs have no effect."""
    jobs = Job.objects.using(database()).filter(batch__in=batches, state__in=ACTIVE_STATES)
    # A running job whose cancellation was requested, and that its worker then released, may be of a paused queue: no
    # worker would claim it.
    jobs = jobs.filter(Q(cancel_requested_at=None) | Q(state=Job.State.QUEUED))
    _cancel(list(jobs.order_by("id").values_list("id", flat=True)), by)
    finish_batches(batch_completion.running_batches().filter(id__in=batches).values_list("id", flat=True))


def _cancel_one(id: UUID, by: Any, results: dict[UUID, str]) -> list[UUID]:
    return retry_lost_transaction(lambda: _cancel_chunk([id], by, results))


def _cancel_chunk(ids: list[UUID], by: Any, results: dict[UUID, str]) -> list[UUID]:
    """Cancel jobs, and add to ``results``. Returns the ids of the jobs that another transaction changed meanwhile."""
    rows = Job.objects.using(database()).filter(id__in=ids, state__in=ACTIVE_STATES).order_by("id")
    # Outcomes call translations and the task's policy, so they are made before the transaction.
    prepared = {job.id: _cancelled(job, by) for job in rows}
    ended: list[Outcome] = []
    running: list[Job] = []
    changed: list[UUID] = []

    def write() -> bool:
        ended.clear()
        running.clear()
        changed.clear()
        _limit_lock_wait()
        for job in lock_query(rows.filter(id__in=list(prepared)), skip_locked=False):
            outcome = prepared[job.id]
            if job.state == Job.State.RUNNING:
                running.append(job)
            elif job.fence == outcome.job.fence:
                outcome.job.state = job.state
                ended.append(outcome)
            else:
                changed.append(job.id)
        now = database_now()
        requested = [(job, _is_by_other(job, by)) for job in running if job.cancel_requested_at is None]
        guarded_update(
            "cancel_requested_at=%s, cancelled_by_other=%s, version=version+1",
            [((now, by_other), job) for job, by_other in requested],
        )
        guarded_update(
            "cancel_requested_at=%s, cancelled_by_other=%s",
            [((now, outcome.job.cancelled_by_other), outcome.job) for outcome in ended],
            state="queued",
        )
        tally = Tally()
        write_ends(ended, now, tally, state="queued")
        # Workers read requested cancellations when the queue rings.
        streams.ring([job.user_id for job, _ in requested], queue=bool(requested or ended))
        has_more_to_number = streams.number_in_transaction(owners_of(ended))
        tally.write()
        return has_more_to_number

    if fair_atomic(write):
        streams.number(owners_of(ended))
    send_signals(ended)
    if tasks := [
        job
        for job in (*(outcome.job for outcome in ended), *running)
        if job.lane == Job.Lane.OBSERVED and not batch_completion.is_batch(job)
    ]:
        observations.revoke_tasks(tasks)
    finish_batches(outcome.job.batch for outcome in ended if outcome.job.batch)
    if handed := [outcome.job for outcome in ended if outcome.job.lane == HANDED]:
        from notifications.jobs.engines import senders

        senders.revoke(handed)
    results.update((outcome.job.id, "cancelled") for outcome in ended)
    results.update((job.id, "asked") for job in running)
    return changed


def _cancelled(job: Job, by: Any) -> Outcome:
    if job.cancel_requested_at is None:
        job.cancelled_by_other = _is_by_other(job, by)
    job.state = Job.State.QUEUED  # the outcome is used only if the locked row is queued
    return outcomes.cancelled(job, policy_at(job.task_path))


def _is_by_other(job: Job, by: Any) -> bool:
    return job.user_id is not None and job.user_id != by


def _retry(ids: Sequence[UUID]) -> list[UUID]:
    queued = _retry_jobs(ids)
    # The batches of these jobs run again too, at any depth.
    for chunk in _chunks(queued):
        jobs = chunk
        while jobs := _batches_of(jobs):
            for batch in jobs:
                _reopen_batch(batch)
    return queued


def _retry_jobs(ids: Sequence[UUID]) -> list[UUID]:
    queued: list[UUID] = []
    for chunk in _chunks(ids):
        rows = Job.objects.using(database()).filter(id__in=chunk, state__in=RETRYABLE_STATES).order_by("id")
        rows = rows.exclude(lane=Job.Lane.OBSERVED)  # only Celery can run them
        if batches := [job for job in rows if batch_completion.is_batch(job)]:
            rows = rows.exclude(id__in=[job.id for job in batches])
            queued += [job.id for job in batches if _retry_batch(job)]
        # Reading a policy may import the task's module, so it is done before the transaction.
        tasks = {
            (path, backend): (policy_at(path).max_attempts, first_lane(path, backend))
            for path, backend in set(rows.values_list("task_path", "backend"))
        }
        queued += fair_atomic(lambda rows=rows, tasks=tasks: _queue_again(rows, tasks))  # type: ignore[misc]
    return queued


def _queue_again(rows: Any, tasks: dict[tuple[str, str], tuple[int, str]]) -> list[UUID]:
    """Queue jobs again. ``tasks`` has, by task path and backend, the number of further attempts and the lane."""
    _limit_lock_wait()
    now = times.now()
    jobs = [job for job in lock_query(rows, skip_locked=False) if (job.task_path, job.backend) in tasks]
    for job in jobs:
        if job.user_id is not None:
            active_limit.raise_if_exceeded(job.user_id)
        guarded_update(
            "state='queued', seq=0, version=version+1, fence=fence+1, max_attempts=attempt+%s, lane=%s, "
            "queued_at=%s, run_after=NULL, worker=NULL, deadline=NULL, result=NULL, error=NULL, finished_at=NULL, "
            "cancel_requested_at=NULL, cancelled_by_other=%s, "
            "progress_current=NULL, progress_total=NULL, progress_message=''",
            [((*tasks[job.task_path, job.backend], now, False), job)],
            state=job.state,
        )
    streams.ring([job.user_id for job in jobs], queue=bool(jobs))
    return [job.id for job in jobs]


def _retry_batch(batch: Job) -> bool:
    """Retry the failed and cancelled jobs of a batch, and have it run again. Returns whether it does."""
    if batch.user_id is not None:
        active_limit.raise_if_exceeded(batch.user_id)  # before a job of the batch is queued
    jobs = Job.objects.using(database()).filter(batch=batch.id, state__in=RETRYABLE_STATES)
    # The jobs first: a running batch without an active job is ended by any worker.
    _retry_jobs(list(jobs.order_by("id").values_list("id", flat=True)))
    return _reopen_batch(batch.id)


def _reopen_batch(batch: UUID) -> bool:
    """Have a failed or cancelled batch run again, and end it if its jobs are done. Returns whether it ran again."""
    now = times.now()

    def write() -> bool:
        _limit_lock_wait()
        rows = Job.objects.using(database()).filter(id=batch, state__in=RETRYABLE_STATES)
        jobs = list(lock_query(rows, skip_locked=False))
        for job in jobs:
            guarded_update(
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


def _run_now(ids: Sequence[UUID]) -> list[UUID]:
    waiting = Job.objects.using(database()).filter(state=Job.State.QUEUED, run_after__isnull=False)
    # The time of an observed task is what Celery's message says.
    waiting = waiting.exclude(lane=Job.Lane.OBSERVED).order_by("id")

    def write(chunk: list[UUID]) -> list[UUID]:
        _limit_lock_wait()
        jobs = list(lock_query(waiting.filter(id__in=chunk), skip_locked=False))
        guarded_update("run_after=NULL, version=version+1", [((), job) for job in jobs], state="queued")
        streams.ring([job.user_id for job in jobs], queue=bool(jobs))
        return [job.id for job in jobs]

    return [id for chunk in _chunks(ids) for id in fair_atomic(lambda chunk=chunk: write(chunk))]  # type: ignore[misc]


def _batches_of(ids: Sequence[UUID]) -> list[UUID]:
    batches = Job.objects.using(database()).filter(id__in=ids).values_list("batch", flat=True)
    return sorted({batch for batch in batches if batch is not None})


def _chunks(ids: Sequence[UUID]) -> Iterable[list[UUID]]:
    return (
        list(ids[start : start + MAX_ROWS_PER_TRANSACTION])
        for start in range(0, len(ids), MAX_ROWS_PER_TRANSACTION)
    )


def _limit_lock_wait() -> None:
    """Let PostgreSQL wait at most 5 s for a row that another transaction holds."""
    db = connection()
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")

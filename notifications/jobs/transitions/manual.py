"""What people do with jobs: cancel them, and have them tried again. Guarded like the changes in ``states.py``."""

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
from notifications.jobs.claiming.lanes import lane_at
from notifications.jobs.enqueueing import active_limit
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import batch_completion, outcomes, states
from notifications.jobs.transitions.finishing import send_signals, settle
from notifications.jobs.transitions.guards import clock, guarded_update, locked
from notifications.jobs.transitions.outcomes import Outcome
from notifications.jobs.transitions.transaction_receivers import TransactionLost, begin_anew, until_recorded
from notifications.models import Job

ACTIVE_STATES = (Job.State.QUEUED, Job.State.RUNNING)
#: What may be tried again.
RETRYABLE_STATES = (Job.State.FAILED, Job.State.CANCELLED)


def cancel(ids: Iterable[UUID], *, by: Any = None) -> dict[UUID, str]:
    """Cancel jobs: queued ones at once, running ones when their tasks let themselves be ended.

    ``by``
        The key of the user who wants it. An owner is told only if it was somebody else, or nobody in particular.

    Returns what became of each: ``"cancelled"``, or ``"asked"``. Those that are done, or are not there, are left out.
    Inside a caller's transaction all this is put off until after its commit. Raises ``django.db.OperationalError``
    where somebody else holds a row for over 5 s.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: _cancel(ids, by))
        return dict.fromkeys(ids, "asked")
    return _cancel(ids, by)


def retry(ids: Iterable[UUID]) -> list[UUID]:
    """Queue failed and cancelled jobs again, with as many attempts more as their policy allows.

    Returns those that were queued. Inside a caller's transaction it is put off until after its commit. Raises
    ``TooManyJobs`` when an owner may have no more, and ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: _retry(ids))
        return ids
    return _retry(ids)


def cancellations_requested(worker: UUID) -> list[tuple[UUID, int, bool]]:
    """Return the running jobs of a worker that are to be cancelled: id, fence, and whether it was not their owner."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    asked = running.filter(cancel_requested_at__isnull=False)
    return list(asked.values_list("id", "fence", "cancelled_by_other"))


def cancel_left() -> None:
    """Go on cancelling the jobs of batches where somebody who did was interrupted. Workers call this once a second."""
    asked = batch_completion.running().filter(cancel_requested_at__isnull=False).values_list("id", flat=True)
    if batches := list(asked):
        _cancel_jobs_of(batches, None)


def _cancel(ids: Sequence[UUID], by: Any) -> dict[UUID, str]:
    became: dict[UUID, str] = {}
    for some in _chunks(ids):
        while some:
            try:
                some = _cancel_some(some, by, became)
            except TransactionLost as exc:
                begin_anew(exc)
                some = [left for id in some for left in _cancel_one(id, by, became)]
    if asked := [id for id, what in became.items() if what == "asked"]:
        _cancel_jobs_of(asked, by)
    return became


def _cancel_jobs_of(batches: Sequence[UUID], by: Any) -> None:
    """Cancel the jobs of batches that are to be cancelled; of other jobs there are none."""
    jobs = Job.objects.using(database()).filter(batch__in=batches, state__in=ACTIVE_STATES)
    # One that was asked to end and then given back by its worker may be of a paused queue: nobody would ever claim it.
    jobs = jobs.filter(Q(cancel_requested_at=None) | Q(state=Job.State.QUEUED))
    _cancel(list(jobs.order_by("id").values_list("id", flat=True)), by)
    settle(batch_completion.running().filter(id__in=batches).values_list("id", flat=True))


def _cancel_one(id: UUID, by: Any, became: dict[UUID, str]) -> list[UUID]:
    return until_recorded(lambda: _cancel_some([id], by, became))


def _cancel_some(ids: list[UUID], by: Any, became: dict[UUID, str]) -> list[UUID]:
    """Cancel what is as it looks at first; return the others."""
    rows = Job.objects.using(database()).filter(id__in=ids, state__in=ACTIVE_STATES).order_by("id")
    # Words are made before the transaction.
    prepared = {job.id: _cancelled(job, by) for job in rows}
    ended: list[Outcome] = []
    running: list[Job] = []
    others: list[UUID] = []

    def change() -> bool:
        for found in (ended, running, others):
            found.clear()  # type: ignore[attr-defined]
        _wait_5_seconds_at_most()
        for job in locked(rows.filter(id__in=list(prepared)), skip=False):
            outcome = prepared[job.id]
            if job.state == Job.State.RUNNING:
                running.append(job)
            elif job.fence == outcome.job.fence:
                outcome.job.state = job.state
                ended.append(outcome)
            else:
                others.append(job.id)
        now = clock()
        asked = [(job, _by_other(job, by)) for job in running if job.cancel_requested_at is None]
        guarded_update(
            "cancel_requested_at=%s, cancelled_by_other=%s, version=version+1",
            [((now, by_other), job) for job, by_other in asked],
        )
        guarded_update(
            "cancel_requested_at=%s, cancelled_by_other=%s",
            [((now, outcome.job.cancelled_by_other), outcome.job) for outcome in ended],
            state="queued",
        )
        states.write_ends(ended, now, state="queued")
        # Workers listen to the queue.
        streams.ring([job.user_id for job, _ in asked], queue=bool(asked or ended))
        return streams.number_in_transaction(_owners(ended))

    if fair_atomic(change):
        streams.number(_owners(ended))
    send_signals(ended)
    settle(outcome.job.batch for outcome in ended if outcome.job.batch)
    became.update((outcome.job.id, "cancelled") for outcome in ended)
    became.update((job.id, "asked") for job in running)
    return others


def _cancelled(job: Job, by: Any) -> Outcome:
    if job.cancel_requested_at is None:
        job.cancelled_by_other = _by_other(job, by)
    job.state = Job.State.QUEUED  # the outcome is used only for one that is
    return outcomes.cancelled(job, policy_at(job.task_path))


def _by_other(job: Job, by: Any) -> bool:
    return job.user_id is not None and job.user_id != by


def _retry(ids: Sequence[UUID]) -> list[UUID]:
    queued = _retry_jobs(ids)
    # What their batches have told holds no longer: they run again too.
    for some in _chunks(queued):
        inside = some
        while inside := _batches_of(inside):
            for batch in inside:
                _reopen(batch)
    return queued


def _retry_jobs(ids: Sequence[UUID]) -> list[UUID]:
    queued: list[UUID] = []
    for some in _chunks(ids):
        rows = Job.objects.using(database()).filter(id__in=some, state__in=RETRYABLE_STATES).order_by("id")
        if batches := [job for job in rows if batch_completion.is_batch(job)]:
            rows = rows.exclude(id__in=[job.id for job in batches])
            queued += [job.id for job in batches if _retry_batch(job)]
        # Modules are imported before the transaction.
        tasks = {
            path: (policy_at(path).max_attempts, lane_at(path))
            for path in set(rows.values_list("task_path", flat=True))
        }
        queued += fair_atomic(lambda rows=rows, tasks=tasks: _retry_some(rows, tasks))  # type: ignore[misc]
    return queued


def _retry_some(rows: Any, tasks: dict[str, tuple[int, str]]) -> list[UUID]:
    """Queue jobs again, with as many attempts more and in the lane that ``tasks`` has for their paths."""
    _wait_5_seconds_at_most()
    now = times.now()
    jobs = [job for job in locked(rows, skip=False) if job.task_path in tasks]
    for job in jobs:
        if job.user_id is not None:
            active_limit.refuse_too_many(job.user_id)
        guarded_update(
            "state='queued', seq=0, version=version+1, fence=fence+1, max_attempts=attempt+%s, lane=%s, "
            "queued_at=%s, run_after=NULL, worker=NULL, deadline=NULL, result=NULL, error=NULL, finished_at=NULL, "
            "cancel_requested_at=NULL, cancelled_by_other=%s, "
            "progress_current=NULL, progress_total=NULL, progress_message=''",
            [((*tasks[job.task_path], now, False), job)],
            state=job.state,
        )
    streams.ring([job.user_id for job in jobs], queue=bool(jobs))
    return [job.id for job in jobs]


def _retry_batch(batch: Job) -> bool:
    """Queue what failed of a batch again, and have the batch run again. Returns whether it does."""
    if batch.user_id is not None:
        active_limit.refuse_too_many(batch.user_id)  # before anything of it is queued
    jobs = Job.objects.using(database()).filter(batch=batch.id, state__in=RETRYABLE_STATES)
    # Its jobs first: a batch that runs and has no active job is over.
    _retry_jobs(list(jobs.order_by("id").values_list("id", flat=True)))
    return _reopen(batch.id)


def _reopen(batch: UUID) -> bool:
    """Have a batch run again that ended badly, and end it where its jobs are done already. Returns whether it was."""
    now = times.now()

    def reopen() -> bool:
        _wait_5_seconds_at_most()
        rows = Job.objects.using(database()).filter(id=batch, state__in=RETRYABLE_STATES)
        found = list(locked(rows, skip=False))
        for job in found:
            guarded_update(
                "state='running', seq=0, version=version+1, fence=fence+1, attempt=attempt+1, max_attempts=attempt+1, "
                "queued_at=%s, started_at=%s, result=NULL, error=NULL, finished_at=NULL, "
                "cancel_requested_at=NULL, cancelled_by_other=%s, progress_current=0, progress_message=''",
                [((now, now, False), job)],
                state=job.state,
            )
            streams.ring([job.user_id])
        return bool(found)

    reopened = retrying_atomic(reopen)
    settle([batch])
    return reopened


def _batches_of(ids: Sequence[UUID]) -> list[UUID]:
    batches = Job.objects.using(database()).filter(id__in=ids).values_list("batch", flat=True)
    return sorted({batch for batch in batches if batch is not None})


def _chunks(ids: Sequence[UUID]) -> Iterable[list[UUID]]:
    return (
        list(ids[start : start + MAX_ROWS_PER_TRANSACTION])
        for start in range(0, len(ids), MAX_ROWS_PER_TRANSACTION)
    )


def _wait_5_seconds_at_most() -> None:
    db = connection()
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")


def _owners(ended: Iterable[Outcome]) -> set[Any]:
    return {outcome.job.user_id for outcome in ended if outcome.job.user_id is not None}

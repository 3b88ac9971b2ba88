"""Cancel jobs, retry them and choose when they run, by hand: from a page, the API, the admin or a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications import streams, times
from notifications.db import bulk
from notifications.db.bulk import lock_query, lock_sql
from notifications.db.clock import database_now
from notifications.db.transactions import (
    connection,
    database,
    execute_many,
    fair_atomic,
    in_callers_transaction,
    on_commit,
)
from notifications.extension import RecordedTransaction, hooks
from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.outcomes import Outcome
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import batch_completion, notify_functions, retrying
from notifications.jobs.transitions.conditional_updates import (
    conditional_update,
    prepare_id,
    update_locked_rows,
)
from notifications.jobs.transitions.finishing import end_jobs, finish_batches
from notifications.jobs.transitions.retrying import chunks_of, limit_lock_wait
from notifications.models import Job
from notifications.states import ACTIVE, CANCELLED_AT_ONCE, sql_list


def cancel(ids: Iterable[UUID], *, by: Any = None) -> dict[UUID, str]:
    """Cancel queued and waiting jobs, and request the cancellation of running ones.

    ``by``
        The key of the user who cancels, or None. The owner of a job is notified unless it is the same user.

    Returns ``"cancelled"`` or ``"asked"`` for each job; jobs that are done or do not exist are left out. Inside a
    caller's transaction jobs are cancelled after its commit. Raises ``django.db.OperationalError`` where another
    transaction holds a row for over 5 s.
    """
    ids = sorted({id if isinstance(id, UUID) else UUID(id) for id in ids})
    if in_callers_transaction():
        on_commit(lambda: _cancel(ids, by))
        return dict.fromkeys(ids, "asked")
    return _cancel(ids, by)


def retry(ids: Iterable[UUID], *, passes_over_full: bool = False, from_start: bool = False) -> list[UUID]:
    """Queue failed and cancelled jobs again, with as many more attempts as the policies of their tasks allow.

    ``passes_over_full``
        Leaves out jobs whose owners have too many active jobs, instead of raising.
    ``from_start``
        Deletes the results of their steps, so that all calls are made again.

    Returns the ids of the queued jobs. Inside a caller's transaction jobs are queued after its commit. Raises
    ``TooManyJobs``, and ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: retrying.retry(ids, passes_over_full, from_start))
        return ids
    return retrying.retry(ids, passes_over_full, from_start)


def reschedule(ids: Iterable[UUID], run_at: datetime | None = None) -> list[UUID]:
    """Make queued jobs claimable from a time on. Without one, make those that wait for a time claimable at once.

    Returns the ids of the changed jobs. Inside a caller's transaction it is done after its commit. Raises
    ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    if in_callers_transaction():
        on_commit(lambda: _reschedule(ids, run_at))
        return ids
    return _reschedule(ids, run_at)


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
    for chunk in chunks_of(ids):
        remaining = chunk
        while remaining:
            remaining = _cancel_chunk(remaining, by, results, more_follows=len(ids) > len(chunk))
    if requested := [id for id, result in results.items() if result == "asked"]:
        _cancel_jobs_of(requested, by)
    return results


def _cancel_jobs_of(batches: Sequence[UUID], by: Any) -> None:
    """Cancel the jobs inside batches. Ids of other jobs have no effect."""
    jobs = Job.objects.using(database()).filter(batch__in=batches, state__in=ACTIVE)
    # A running job whose cancellation was requested, and that its worker then released, may be of a paused queue: no
    # worker would claim it.
    jobs = jobs.filter(Q(cancel_requested_at=None) | Q(state__in=CANCELLED_AT_ONCE))
    _cancel(list(jobs.order_by("id").values_list("id", flat=True)), by)
    finish_batches(batch_completion.running_batches().filter(id__in=batches).values_list("id", flat=True))


def _cancel_chunk(
    ids: list[UUID], by: Any, results: dict[UUID, str], *, more_follows: bool = False
) -> list[UUID]:
    """Cancel jobs, and add to ``results``. Returns the ids of the jobs that another transaction changed meanwhile."""
    prepare = prepare_id()
    of_ids, params = bulk.where_in(Job, "id", [prepare(id) for id in ids])
    active = f"WHERE {of_ids} AND state IN ({sql_list(ACTIVE)}) ORDER BY id"
    jobs = bulk.select(Job, active, params)
    # Outcomes call translations and the task's policy, so they are made before the transaction. A running job is only
    # asked to end: its notify function is called when it has.
    idle = [job for job in jobs if job.state in CANCELLED_AT_ONCE]
    policies = {path: policy_at(path) for path in {job.task_path for job in idle}}
    made = notify_functions.call_all([_cancelled(job, policies[job.task_path], by) for job in idle])
    prepared = {prepare(outcome.job.id): outcome for outcome in made}
    read = {prepare(job.id): job.id for job in jobs}
    running: list[Job] = []
    changed: list[UUID] = []

    def lock_rows(tx: RecordedTransaction) -> tuple[list[Outcome], datetime]:
        running.clear()
        changed.clear()
        ended: list[Outcome] = []
        limit_lock_wait()
        lock = (
            f"SELECT id, state, fence, version FROM notifications_job {active}{lock_sql(skip_locked=False)}"
        )
        [locked] = execute_many([(lock, params)])
        started: list[UUID] = []
        for id, state, fence, version in locked:
            if id not in read:
                continue  # became active after it was read
            outcome = prepared.get(id)
            if state == Job.State.RUNNING:
                started.append(read[id])
            elif outcome and fence == outcome.job.fence:
                outcome.job.state, outcome.job.version = state, version
                ended.append(outcome)
            else:
                changed.append(read[id])
        if started:
            running.extend(Job.objects.using(database()).filter(id__in=started).order_by("id"))
        now = database_now()
        for outcome in ended:
            outcome.job.cancel_requested_at = now
        requested = [(job, _is_by_other(job, by)) for job in running if job.cancel_requested_at is None]
        conditional_update(
            "cancel_requested_at=%s, cancelled_by_other=%s, version=version+1",
            [((now, by_other), job) for job, by_other in requested],
        )
        # Workers read requested cancellations when the queue rings.
        streams.ring([job.user_id for job, _ in requested], queue=bool(requested or ended))
        return ended, now

    def revoke(ended: Sequence[Outcome]) -> None:
        for hook in hooks.after_cancel:
            hook([outcome.job for outcome in ended], running)

    ended = end_jobs(
        lock_rows,
        states=CANCELLED_AT_ONCE,
        columns=("cancel_requested_at", "cancelled_by_other"),
        run=partial(fair_atomic, more_follows=more_follows),
        after_commit=revoke,
    )
    results.update((outcome.job.id, "cancelled") for outcome in ended)
    results.update((job.id, "asked") for job in running)
    return changed


def _cancelled(job: Job, policy: Policy, by: Any) -> Outcome:
    if job.cancel_requested_at is None:
        job.cancelled_by_other = _is_by_other(job, by)
    return outcomes.cancelled(job, policy)


def _is_by_other(job: Job, by: Any) -> bool:
    return job.user_id is not None and job.user_id != by


def _reschedule(ids: Sequence[UUID], run_at: datetime | None) -> list[UUID]:
    # The time of an observed task is what Celery's message says.
    rows = (
        Job.objects.using(database()).filter(state=Job.State.QUEUED).exclude(executor=Job.Executor.OBSERVED)
    )
    rows = (rows if run_at else rows.filter(run_after__isnull=False)).order_by("id")
    moment = run_at and times.to_db(times.as_utc(run_at), connection())

    def write(chunk: list[UUID]) -> list[UUID]:
        limit_lock_wait()
        locked = lock_query(rows.filter(id__in=chunk), skip_locked=False)
        jobs = list(locked.values_list("id", "user_id", "fence", named=True))
        update_locked_rows(
            ("run_after",),
            [((moment,), job) for job in jobs],
            assignments=("fail_if_unknown_after = NULL", "version = version + 1"),
            states=(Job.State.QUEUED,),
        )
        streams.ring([job.user_id for job in jobs], queue=bool(jobs))
        return [job.id for job in jobs]

    return [id for chunk in chunks_of(ids) for id in fair_atomic(lambda chunk=chunk: write(chunk))]  # type: ignore[misc]

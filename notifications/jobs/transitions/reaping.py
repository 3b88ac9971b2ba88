"""Reap jobs: take running jobs away from workers that are lost, exceed the deadline, or stop."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications.db.bulk import lock_query
from notifications.db.clock import (
    database_now,
    database_now_sql,
    is_lease_over,
    is_lease_valid,
    longest_lease,
)
from notifications.db.transactions import chunks, database, retrying_atomic
from notifications.extension import OwnTask, RecordedTransaction, hooks
from notifications.extension.calls import left_to_later
from notifications.jobs import outcomes
from notifications.jobs.claiming.executors import QUARANTINED
from notifications.jobs.notifying import record_change
from notifications.jobs.outcomes import Outcome
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import notify_functions, recording, unrecorded_outcomes
from notifications.jobs.transitions.claimed_jobs import Claim, claim_of
from notifications.jobs.transitions.conditional_updates import chunks_of, conditional_update, ring_queued
from notifications.jobs.transitions.queueing import release
from notifications.jobs.transitions.recording import record_attempts, run_recording
from notifications.models import Job, Worker

logger = logging.getLogger("notifications.jobs")

MAX_JOBS_PER_TRANSACTION = 100
MAX_WORKERS_DELETED = 100


def lost_jobs_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``reap_jobs`` may find something, and its parameters."""
    now, now_param = database_now_sql()
    latest, latest_param = database_now_sql(longest_lease())
    return (
        "EXISTS (SELECT 1 FROM notifications_job WHERE state = 'running' AND worker IS NOT NULL) "
        f"OR EXISTS (SELECT 1 FROM notifications_worker WHERE lease_until < {now} OR lease_until > {latest})",
        (now_param, latest_param),
    )


def reap_jobs(dead_workers: Iterable[UUID] = (), *, expired: bool = True) -> int:
    """Take running jobs away from lost workers, and return how many.

    A job with attempts left is queued again. Unless its worker lives, and only the job's deadline is over, it becomes
    a quarantined job: it may be what ended the process, but for harmless tasks of extensions (``OwnTask``). A job
    without attempts left fails. One that was done, and of which a hook could not record that, is queued for it.

    ``dead_workers``
        Workers whose processes are known to have ended.
    ``expired``
        Take also the jobs of workers whose lease is over, and jobs whose deadline is over.
    """
    dead_workers = list(dead_workers)
    #: Jobs whose ends are being recorded on another thread.
    apart = {id for id, _ in notify_functions.claims_recorded_apart()}
    #: Those of the last transaction, and how many one takes: one each where a hook of an extension fails.
    tried: list[UUID] = []
    limit = MAX_JOBS_PER_TRANSACTION

    def lost_jobs() -> Any:
        jobs = _lost_jobs(dead_workers, expired)
        return jobs.exclude(id__in=apart) if apart else jobs

    def requeue(tx: RecordedTransaction) -> list[Job]:
        now = tx.now = database_now()
        jobs = list(lock_query(lost_jobs())[:limit])
        tried[:] = [job.id for job in jobs]
        requeued = [job for job in jobs if _has_attempts_left(job)]
        done = {job.id for job in requeued if unrecorded_outcomes.restore(job)}
        record_attempts([outcomes.interrupted(job) for job in requeued if job.id not in done], tx)
        alive = set(_live_workers(now)) - set(dead_workers)
        kept = done | {job.id for job in requeued if job.worker in alive}
        executors = [_executor_after_loss(job, is_kept=job.id in kept) for job in requeued]
        conditional_update(
            "state='queued', executor=%s, attempt=%s, worker=NULL, deadline=NULL, fail_if_unknown_after=NULL, "
            "version=version+1",
            [
                ((executor, job.attempt - (job.id in done)), job)
                for executor, job in zip(executors, requeued, strict=True)
            ],
        )
        ring_queued(requeued)
        return jobs

    reaped = 0
    while lost_jobs().exists():
        jobs: list[Job] = []
        tried.clear()
        with left_to_later("requeue a lost job"):
            jobs = run_recording(requeue)
        if not jobs:
            if not tried:
                break
            if limit == 1:
                apart.update(tried)  # it holds up no other
            limit = 1
            continue
        reaped += len(jobs)
        ended = [_outcome_of_lost(job) for job in jobs if not _has_attempts_left(job)]
        if ended:
            ready = notify_functions.record_apart(ended, recording.finish_apart)
            apart |= {outcome.job.id for outcome in ended} - {outcome.job.id for outcome in ready}
            finished = recording.finish_apart(ready)
            apart |= {outcome.job.id for outcome in ready if claim_of(outcome.job) not in finished}
        logger.warning("Took jobs away from lost workers: %d", len(jobs))
    _delete_expired_workers(dead_workers, expired)
    return reaped


def release_at_stop(jobs: Sequence[Job], begun: Collection[Claim]) -> None:
    """Queue the running jobs of a worker that stops again. Their attempts do not count.

    Of those that have begun, a job that may begin only once (``max_attempts=1``) ends, as if its worker was lost.

    ``begun``
        The claims of the jobs whose tasks were called.
    """
    workers = {
        claim: job.worker
        for job in jobs
        if (claim := claim_of(job)) in begun and policy_at(job.task_path).max_attempts == 1
    }
    running = Job.objects.using(database()).filter(state=Job.State.RUNNING)
    # As they are now: a cancellation may be requested, or an outcome stored that the next claim records.
    read = [job for ids in chunks_of([id for id, _ in workers]) for job in running.filter(id__in=ids)]
    lost = [job for job in read if workers.get(claim_of(job)) == job.worker and not _has_attempts_left(job)]
    ended = {claim_of(job) for job in lost}
    release([job for job in jobs if claim_of(job) not in ended])
    for chunk in chunks(lost, MAX_JOBS_PER_TRANSACTION):
        recording.finish_apart([_outcome_of_lost(job) for job in chunk])
    if lost:
        logger.warning("Ended jobs that must not begin twice, of a worker that stops: %d", len(lost))


def _delete_expired_workers(dead_workers: list[UUID], expired: bool) -> None:
    # The row of a dead worker stays until its lease is over. What the worker had sent last may still be on its way
    # through the database's server: it may hold rows locked, or be about to claim more. Later calls find these jobs by
    # the row.
    over = is_lease_over(database_now())
    if not expired:
        over &= Q(id__in=dead_workers)
    workers = Worker.objects.using(database()).filter(over)
    if lost := list(workers.order_by("id")[:MAX_WORKERS_DELETED]):
        retrying_atomic(lambda: _delete_workers(lost))


def _delete_workers(lost: list[Worker]) -> None:
    rows = Worker.objects.using(database())
    now = database_now()
    over = is_lease_over(now)
    deleted, _ = rows.filter(over, id__in=[worker.id for worker in lost]).delete()
    if deleted:  # not by another process
        record_change("lost", lost, now=now)


def _lost_jobs(dead_workers: list[UUID], expired: bool) -> Any:
    lost = Q(worker__in=dead_workers)
    if expired:
        now = database_now()
        lost |= ~Q(worker__in=_live_workers(now)) | Q(deadline__lt=now)
    running = Job.objects.using(database()).filter(lost, state=Job.State.RUNNING, worker__isnull=False)
    # The order of the index of running jobs. For any other order SQLite would read the whole table.
    return running.order_by("worker", "id")


def _live_workers(now: datetime) -> Any:
    return Worker.objects.using(database()).filter(is_lease_valid(now)).values_list("id", flat=True)


def _executor_after_loss(job: Job, *, is_kept: bool) -> str:
    if is_kept or hooks.own_tasks.get(job.task_path, OwnTask()).is_harmless:
        return str(job.executor)
    return QUARANTINED


def _has_attempts_left(job: Job) -> bool:
    if unrecorded_outcomes.restore(job):
        return True
    return job.attempt < job.max_attempts and job.cancel_requested_at is None


def _outcome_of_lost(job: Job) -> Outcome:
    policy = policy_at(job.task_path)
    if job.cancel_requested_at is not None:
        return outcomes.cancelled(job, policy)
    return outcomes.failure(job, policy, "worker-lost")

"""Reap jobs: take running jobs away from workers that are lost, exceed the deadline, or stop."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
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
from notifications.jobs import outcomes
from notifications.jobs.claiming.executors import QUARANTINED
from notifications.jobs.notifying import record_change
from notifications.jobs.outcomes import Outcome
from notifications.jobs.owed_calls import run_owing
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import notify_functions, recording
from notifications.jobs.transitions.conditional_updates import chunks_of, conditional_update, ring_queued
from notifications.jobs.transitions.queueing import release
from notifications.jobs.transitions.recording import record_attempts, run_recording
from notifications.jobs.transitions.running import Claim, claim_of
from notifications.models import Job, Worker

logger = logging.getLogger("notifications.jobs")

MAX_JOBS_PER_TRANSACTION = 100
MAX_WORKERS_DELETED = 100


def lost_jobs_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_lost_jobs`` may find something, and its parameters."""
    now, now_param = database_now_sql()
    latest, latest_param = database_now_sql(longest_lease())
    return (
        "EXISTS (SELECT 1 FROM notifications_job WHERE state = 'running' AND worker IS NOT NULL) "
        f"OR EXISTS (SELECT 1 FROM notifications_worker WHERE lease_until < {now} OR lease_until > {latest})",
        (now_param, latest_param),
    )


def find_lost_jobs(dead_workers: Iterable[UUID] = (), *, expired: bool = True) -> Iterator[UUID]:
    """Yield the ids of running jobs that are to be taken away from lost workers.

    ``dead_workers``
        Workers whose processes are known to have ended.
    ``expired``
        Also the jobs of workers whose lease is over, and jobs whose deadline is over.
    """
    #: Jobs whose ends are being recorded on another thread.
    apart = {id for id, _ in notify_functions.claims_recorded_apart()}
    # The order of the index of running jobs. For any other order SQLite would read the whole table.
    found = _lost_jobs(list(dead_workers), expired).order_by("worker", "id").values_list("id", flat=True)
    yield from (id for id in list(found) if id not in apart)


def reap(ids: Collection[UUID], dead_workers: Iterable[UUID] = (), *, expired: bool = True) -> int:
    """Take those of these jobs away from lost workers, as ``find_lost_jobs`` finds them, and return how many.

    A job with attempts left is queued again. Unless its worker lives, and only the job's deadline is over, it becomes
    a quarantined job: it may be what ended the process, but for harmless tasks of extensions (``OwnTask``). A job
    without attempts left fails.
    """
    dead_workers = list(dead_workers)

    def requeue(tx: RecordedTransaction) -> list[Job]:
        now = tx.now = database_now()
        jobs = list(lock_query(_lost_jobs(dead_workers, expired).filter(id__in=ids).order_by("worker", "id")))
        requeued = [job for job in jobs if _has_attempts_left(job)]
        record_attempts([outcomes.interrupted(job) for job in requeued], tx)
        alive = set(_live_workers(now)) - set(dead_workers)
        kept = {job.id for job in requeued if job.worker in alive}
        executors = [_executor_after_loss(job, is_kept=job.id in kept) for job in requeued]
        conditional_update(
            "state='queued', executor=%s, worker=NULL, deadline=NULL, fail_if_unknown_after=NULL, version=version+1",
            [((executor,), job) for executor, job in zip(executors, requeued, strict=True)],
        )
        ring_queued(requeued)
        return jobs

    jobs = run_recording(requeue)
    if ended := [_outcome_of_lost(job) for job in jobs if not _has_attempts_left(job)]:
        recording.finish_jobs(notify_functions.record_apart(ended, recording.finish_jobs))
    if jobs:
        logger.warning("Took jobs away from lost workers: %d", len(jobs))
    return len(jobs)


def reap_jobs(dead_workers: Iterable[UUID] = (), *, expired: bool = True) -> int:
    """Take all running jobs away from lost workers, delete the rows of these, and return how many jobs they were."""
    dead_workers = list(dead_workers)
    found = chunks(find_lost_jobs(dead_workers, expired=expired), MAX_JOBS_PER_TRANSACTION)
    reaped = sum(reap(ids, dead_workers, expired=expired) for ids in found)
    delete_lost_workers(dead_workers, expired=expired)
    return reaped


def release_at_stop(jobs: Sequence[Job], begun: Collection[Claim]) -> None:
    """Queue the running jobs of a worker that stops again. Their attempts do not count.

    Of those that have begun, a job that may begin only once (``max_attempts=1``) ends, as if its worker was lost.

    ``begun``
        The claims of the jobs whose tasks were called.
    """
    once = [job for job in jobs if claim_of(job) in begun and policy_at(job.task_path).max_attempts == 1]
    workers = {claim_of(job): job.worker for job in once}
    running = Job.objects.using(database()).filter(state=Job.State.RUNNING)
    # As they are now: a cancellation may be requested.
    read = [job for ids in chunks_of([job.id for job in once]) for job in running.filter(id__in=ids)]
    lost = [job for job in read if workers.get(claim_of(job)) == job.worker and not _has_attempts_left(job)]
    ended = {claim_of(job) for job in lost}
    release([job for job in jobs if claim_of(job) not in ended])
    for chunk in chunks(lost, MAX_JOBS_PER_TRANSACTION):
        recording.finish_jobs([_outcome_of_lost(job) for job in chunk])
    if lost:
        logger.warning("Ended jobs that must not begin twice, of a worker that stops: %d", len(lost))


def delete_lost_workers(dead_workers: Collection[UUID] = (), *, expired: bool = True) -> bool:
    """Delete rows of workers whose leases are over. Return whether there may be more."""
    # The row of a dead worker stays until its lease is over. What the worker had sent last may still be on its way
    # through the database's server: it may hold rows locked, or be about to claim more. Later calls find these jobs by
    # the row.
    over = is_lease_over(database_now())
    if not expired:
        over &= Q(id__in=dead_workers)
    workers = Worker.objects.using(database()).filter(over)
    if lost := list(workers.order_by("id")[:MAX_WORKERS_DELETED]):
        run_owing(retrying_atomic, lambda: _delete_workers(lost))
    return len(lost) == MAX_WORKERS_DELETED


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
    return Job.objects.using(database()).filter(lost, state=Job.State.RUNNING, worker__isnull=False)


def _live_workers(now: datetime) -> Any:
    return Worker.objects.using(database()).filter(is_lease_valid(now)).values_list("id", flat=True)


def _executor_after_loss(job: Job, *, is_kept: bool) -> str:
    if is_kept or hooks.own_tasks.get(job.task_path, OwnTask()).is_harmless:
        return str(job.executor)
    return QUARANTINED


def _has_attempts_left(job: Job) -> bool:
    return job.attempt < job.max_attempts and job.cancel_requested_at is None


def _outcome_of_lost(job: Job) -> Outcome:
    policy = policy_at(job.task_path)
    if job.cancel_requested_at is not None:
        return outcomes.cancelled(job, policy)
    return outcomes.failure(job, policy, "worker-lost")

"""The one place where a job changes its state.

Every change is guarded by the job's id, its fence and the state that it leaves, so that a worker that was
frozen past its lease changes nothing, and each raises ``version``. Locks are taken in one order: job rows by
id, notification rows by id, then streams.

    enqueue   (nothing) -> queued
    claim     queued -> running            fence + 1, attempt + 1; in claiming.py
    report    running -> running           progress
    finish    running -> succeeded, failed, cancelled, with the notification and its number
              running -> queued            it raised, and is tried again later
    release   running -> queued            the attempt is given back
    reap      running -> queued, failed    the worker or the deadline is gone; a suspect until an attempt ends
    cancel    queued -> cancelled          a running one is only asked to end; in by_hand.py
    retry     failed, cancelled -> queued  fence + 1; in by_hand.py
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error
from django.db.models import Q

from notifications import streams, times
from notifications.db import bulk
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.claims import DEADLINE_MARGIN_SECONDS
from notifications.jobs.claiming.claims import claim as claim
from notifications.jobs.claiming.lanes import SUSPECT, lane_at
from notifications.jobs.enqueueing import active_limit
from notifications.jobs.enqueueing.unique import insert_once
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import outcomes
from notifications.jobs.transitions.guards import (
    clock,
    guarded_update,
    guards,
    insert_attempts,
    locked,
    update_held,
)
from notifications.jobs.transitions.outcomes import Outcome
from notifications.jobs.transitions.transaction_receivers import (
    TransactionLost,
    begin_anew,
    call_receivers,
    until_recorded,
)
from notifications.models import Job, Worker
from notifications.signals import notification_recording

logger = logging.getLogger("notifications.jobs")

PROGRESS_COLUMNS = ("progress_current", "progress_total", "progress_message")
#: Seconds until a job that this worker cannot run is offered again, and until one that no worker knows fails.
REQUEUE_DELAY_SECONDS, UNKNOWN_TASK_FAILS_SECONDS = 30, 24 * 3600


def enqueue(job: Job) -> Job:
    """Insert a queued job in the caller's transaction, and ring after its commit.

    Returns the job, or the one that has its key already. Raises ``TooManyJobs`` and ``IdempotencyKeyConflict``.
    """
    job.created_at = job.queued_at = times.now()
    db = connection()

    def insert() -> Job:
        active_limit.insert(job)
        streams.ring([job.user_id], queue=True)
        return job

    if job.idempotency_key:
        return insert_once(job, insert)
    # On PostgreSQL it is one statement, which needs no transaction.
    return insert() if db.in_atomic_block or db.vendor == "postgresql" else retrying_atomic(insert)


def claimed_jobs(worker: UUID) -> list[Job]:
    """Return the jobs that a worker still holds: of each what its guards need."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    return list(running.only("id", "fence", "state", "user"))


def extend_deadlines(jobs: Sequence[Job], timeouts: Mapping[str, float]) -> None:
    """Count the deadlines of claimed jobs from now: their timeout is only known now, or they wait for a thread."""
    now = clock()
    rows = [
        ((now + timedelta(seconds=timeouts[job.task_path] + DEADLINE_MARGIN_SECONDS),), job) for job in jobs
    ]
    retrying_atomic(lambda: guarded_update("deadline=%s", rows))


def store_progress(jobs: Sequence[Job]) -> None:
    """Store the progress of running jobs."""

    def write() -> None:
        guarded_update(
            "progress_current=%s, progress_total=%s, progress_message=%s, version=version+1",
            [(_progress(job), job) for job in jobs],
        )
        streams.ring(job.user_id for job in jobs)

    retrying_atomic(write)


def finish(group: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Record outcomes with their notifications, numbered, in one transaction.

    Returns those that are stored and those that are void: their job was taken over by another worker. What is
    in neither list was locked by somebody else and waits for the next group. Where receivers lose the transaction,
    outcomes are recorded one by one. Raises ``django.db.DataError`` or ``IntegrityError`` when the group cannot be
    stored, and ``TransactionLost`` where the caller waits no longer.
    """
    try:
        return _finish(group)
    except TransactionLost as exc:
        begin_anew(exc)
    stored: list[Outcome] = []
    void: list[Outcome] = []
    for outcome in group:
        try:
            some = until_recorded(lambda outcome=outcome: _finish([outcome]))  # type: ignore[misc]
        except Error as exc:
            if len(group) == 1:
                raise
            logger.warning("The outcome of job %s waits: %s", outcome.job.id, exc)
        else:
            stored += some[0]
            void += some[1]
    return stored, void


def _finish(group: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    stored: list[Outcome] = []
    void: list[Outcome] = []
    more = False

    def record() -> None:
        nonlocal more
        stored.clear()
        void.clear()
        claimed_jobs, now = _lock_claims(group, void)
        insert_attempts((outcome.job, outcome, now) for outcome in claimed_jobs if outcome.attempt)
        put_back = [outcome for outcome in claimed_jobs if outcome.again_in is not None]
        if put_back:
            schedule_retries(put_back, now)
        write_ends(
            [outcome for outcome in claimed_jobs if outcome.again_in is None] if put_back else claimed_jobs,
            now,
        )
        stored.extend(claimed_jobs)
        waiting = _owners(o for o in claimed_jobs if o.again_in is None and o.job.seq is None)
        more = streams.number_in_transaction(waiting)

    retrying_atomic(record)
    if more:
        streams.number(_owners(stored))
    return stored, void


def write_ends(ended: Sequence[Outcome], now: datetime, *, state: str = "running") -> None:
    """Write the ends of jobs that were in ``state``, and what their owners are told.

    Inside a transaction that holds the rows, and that numbers the owners afterwards. Raises ``TransactionLost``.
    """
    notifications = [outcome.notification for outcome in ended if outcome.notification]
    for outcome in ended:
        job = outcome.job
        job.state, job.result, job.error, job.finished_at = outcome.state, outcome.result, outcome.error, now
        job.seq = 0 if job.user_id is None else None
    for notification in notifications:
        notification.seq, notification.raised, notification.counted = None, None, False
    at = times.to_db(now, connection())
    with bulk.send_together():
        at_once = _can_number_in_place(ended) and streams.number_new(
            [*(o.job for o in ended if o.job.user_id is not None), *notifications]
        )
        update_held(
            ("state", "result", "error", "finished_at", "seq", *PROGRESS_COLUMNS),
            [
                ((o.job.state, o.job.result, o.job.error, at, o.job.seq, *_progress(o.job)), o.job)
                for o in ended
            ],
            also=("version = version + 1",),
            state=state,
        )
        bulk.insert(notifications)
    if not at_once:
        call_receivers(ended)
    if any(outcome.job.user_id is None for outcome in ended) or candidates.is_any_limited(
        o.job for o in ended
    ):
        # No stream says that they are done to those who wait for them, or for their place.
        streams.ring((), queue=True)


def release(jobs: Sequence[Job]) -> None:
    """Give running jobs back to the queue at a shutdown; the attempt does not count."""

    def write() -> None:
        guarded_update(
            "state='queued', worker=NULL, deadline=NULL, attempt=attempt-1, version=version+1",
            [((), job) for job in jobs],
        )
        streams.ring([job.user_id for job in jobs], queue=True)

    if jobs:
        retrying_atomic(write)


def requeue_unknown_task(job: Job) -> bool:
    """Give back a job whose task this worker does not know: another version of the program may. No attempt counts.

    Returns False, and changes nothing, when workers have met it for a day and none knew it.
    """
    # While such a job is queued, its deadline says until when a worker must know it. It is set when the first worker
    # meets the job: created_at and queued_at would count the time that a job for later has only waited, and run_after
    # moves. A claim puts its own deadline over it, and keeps this one in known_by.
    now = clock()
    known_by = getattr(job, "known_by", None) or now + timedelta(seconds=UNKNOWN_TASK_FAILS_SECONDS)
    if known_by < now:
        return False

    def write() -> None:
        guarded_update(
            "state='queued', worker=NULL, deadline=%s, attempt=attempt-1, version=version+1, run_after=%s",
            [((known_by, now + timedelta(seconds=REQUEUE_DELAY_SECONDS)), job)],
        )
        streams.ring([job.user_id])

    retrying_atomic(write)
    return True


def requeue_without_thread(job: Job) -> None:
    """Give back a job for which this worker has no thread: another worker may. No attempt counts."""

    def write() -> None:
        guarded_update(
            "state='queued', worker=NULL, deadline=NULL, attempt=attempt-1, version=version+1, run_after=%s",
            [((clock() + timedelta(seconds=REQUEUE_DELAY_SECONDS),), job)],
        )
        streams.ring([job.user_id])

    retrying_atomic(write)


def reap(
    gone: Iterable[UUID] = (),
    *,
    leases: bool = True,
    record: Callable[[list[Outcome]], object] | None = None,
) -> int:
    """Take running jobs away from workers that are gone, and return how many.

    ``gone`` are workers known to be dead; with ``leases`` also those whose lease, or whose job's deadline, is over.
    A job with attempts left is queued again, as a suspect unless its worker lives: it may be what ended the process.
    Another one fails and its owner is told, by ``record`` unless ``finish`` will do.
    """
    gone = list(gone)

    def take() -> list[Job]:
        now = clock()
        jobs = list(locked(_lost(gone, leases))[:100])
        again = [job for job in jobs if _has_attempts_left(job)]
        insert_attempts((job, None, now) for job in again)
        alive = set(_alive(now)) - set(gone)
        lanes = [job.lane if job.worker in alive else SUSPECT for job in again]
        guarded_update(
            "state='queued', lane=%s, worker=NULL, deadline=NULL, version=version+1",
            [((lane,), job) for lane, job in zip(lanes, again, strict=True)],
        )
        streams.ring([job.user_id for job in again], queue=bool(again))
        return jobs

    reaped = 0
    while _lost(gone, leases).exists() and (jobs := retrying_atomic(take)):
        reaped += len(jobs)
        ended = [_end_of_lost(job) for job in jobs if not _has_attempts_left(job)]
        if ended:
            (record or finish)(ended)
        logger.warning("Took %d jobs away from workers that are gone.", len(jobs))
    # The row of a dead worker stays until its lease is over: what it had sent last may still be on its way through the
    # database's server, which holds those jobs meanwhile, or is about to give it some. They are looked for again.
    over = Q(lease_until__lt=clock())
    if not leases:
        over &= Q(id__in=gone)
    dead = Worker.objects.using(database()).filter(over)
    if dead.exists():
        retrying_atomic(dead.delete)
    return reaped


def _lost(gone: list[UUID], leases: bool) -> Any:
    lost = Q(worker__in=gone)
    if leases:
        now = clock()
        lost |= ~Q(worker__in=_alive(now)) | Q(deadline__lt=now)
    # In the order of the index of running jobs: for any other SQLite would walk the whole table.
    running = Job.objects.using(database()).filter(lost, state=Job.State.RUNNING, worker__isnull=False)
    return running.order_by("worker", "id")


def _alive(now: datetime) -> Any:
    """Return a query of the ids of the workers whose lease holds."""
    return Worker.objects.using(database()).filter(lease_until__gte=now).values_list("id", flat=True)


def _has_attempts_left(job: Job) -> bool:
    return job.attempt < job.max_attempts and job.cancel_requested_at is None


def _end_of_lost(job: Job) -> Outcome:
    how = outcomes.lost if job.cancel_requested_at is None else outcomes.cancelled
    return how(job, policy_at(job.task_path))


def _lock_claims(group: Sequence[Outcome], void: list[Outcome]) -> tuple[list[Outcome], datetime]:
    """Lock the rows of a group by id; return the outcomes whose claim still holds, and the time. Note the void ones."""
    ordered = sorted(group, key=lambda outcome: outcome.job.id)
    jobs = [outcome.job for outcome in ordered]
    now, free = guards(jobs)
    there = free if len(free) == len(jobs) else guards(jobs, lock=False)[1]
    claimed_jobs = []
    for outcome in ordered:
        job = outcome.job
        if there.get(job.id, ())[:2] != (job.fence, Job.State.RUNNING):
            void.append(outcome)
        elif job.id in free:
            _, _, asked_at, by_other = free[job.id]
            if asked_at and outcome.again_in is not None:
                job.cancelled_by_other = by_other
                outcome = outcomes.cancelled(job, policy_at(job.task_path))
            claimed_jobs.append(outcome)
    return claimed_jobs, now


def _can_number_in_place(ended: Sequence[Outcome]) -> bool:
    """Whether rows can be written with their numbers: no code of the host's runs while streams are held, and it is the
    first claim of each job, so none was ever done and told."""
    first = all(outcome.job.fence == 1 and outcome.job.worker for outcome in ended)
    return first and not notification_recording.receivers


def schedule_retries(group: Sequence[Outcome], now: datetime) -> None:
    """Queue jobs again that raised, each to be begun after its pause."""
    for outcome in group:
        job = outcome.job
        job.state, job.run_after = Job.State.QUEUED, now + timedelta(seconds=outcome.again_in or 0)
        job.progress_current, job.progress_total, job.progress_message = None, None, ""
        job.lane = lane_at(job.task_path)  # a suspect whose attempt has ended by itself is none any more
    guarded_update(
        "state='queued', run_after=%s, lane=%s, worker=NULL, deadline=NULL, version=version+1, "
        "progress_current=NULL, progress_total=NULL, progress_message=''",
        [((outcome.job.run_after, outcome.job.lane), outcome.job) for outcome in group],
    )
    room = candidates.is_any_limited(outcome.job for outcome in group)
    streams.ring([outcome.job.user_id for outcome in group], queue=room)


def _owners(group: Iterable[Outcome]) -> set[Any]:
    return {outcome.job.user_id for outcome in group if outcome.job.user_id is not None}


def _progress(job: Job) -> tuple[Any, ...]:
    return (job.progress_current, job.progress_total, job.progress_message)

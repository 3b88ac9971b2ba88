"""The one place where a job changes its state.

Every change is guarded by the job's id, its fence and the state that it leaves, so that a worker that was
frozen past its lease changes nothing, and each raises ``version``. Locks are taken in one order: job rows by
id, notification rows by id, then streams.

    enqueue   (nothing) -> queued
    claim     queued -> running            fence + 1, attempt + 1
    report    running -> running           progress
    finish    running -> succeeded, failed, with the notification and its number
    release   running -> queued            the attempt is given back
    reap      running -> queued, failed    the worker or the deadline is gone
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from notifications import streams
from notifications.conf import settings
from notifications.exceptions import TooManyJobs
from notifications.jobs import outcomes
from notifications.jobs.outcomes import Outcome
from notifications.jobs.results import policy_at
from notifications.models import Attempt, Job, Notification, Worker
from notifications.signals import notification_recording
from notifications.transactions import connection, database, ours

logger = logging.getLogger("notifications.jobs")

#: Seconds that a claim holds beyond the task's timeout, so that a wedged event loop cannot keep a job for ever.
BEYOND_TIMEOUT = 60
#: Seconds until a job that this worker cannot run is offered again, and until one that no worker knows fails.
OFFERED_AGAIN, UNKNOWN_FAILS = 30, 24 * 3600


def enqueue(job: Job) -> None:
    """Insert a queued job in the caller's transaction, and ring after its commit. Raises ``TooManyJobs``."""
    job.created_at = job.queued_at = timezone.now()
    db = connection()

    def insert() -> None:
        if job.user_id is not None:
            _refuse_too_many(job.user_id)
        job.save(using=db.alias, force_insert=True)
        streams.ring([job.user_id], queue=True)

    if db.in_atomic_block:
        insert()
    else:
        ours(insert)


def claim(
    worker: UUID, limit: int, *, queues: Sequence[str] = (), timeouts: dict[str, float] | None = None
) -> list[Job]:
    """Take at most ``limit`` queued jobs that are due, by priority and age, and return them as they are now.

    ``timeouts`` are the seconds that tasks may take, by path, as far as they are known.
    """
    timeouts = timeouts or {}

    def take() -> list[Job]:
        now = clock()
        jobs = _due(now, limit, queues)
        for job in jobs:
            job.state = Job.State.RUNNING
            job.worker = worker
            job.known_by = job.deadline  # type: ignore[attr-defined]  # see postpone()
            job.fence += 1
            job.attempt += 1
            job.version += 1
            job.started_at = now
            job.deadline = now + timedelta(seconds=timeouts.get(job.task_path, 300) + BEYOND_TIMEOUT)
        _write(
            "state='running', worker=%s, started_at=%s, deadline=%s, "
            "fence=fence+1, attempt=attempt+1, version=version+1",
            [((job.worker, job.started_at, job.deadline), job) for job in jobs],
            state="queued",
            fence=lambda job: job.fence - 1,
        )
        streams.ring(job.user_id for job in jobs)
        return jobs

    return ours(take)


def is_due(queues: Sequence[str] = ()) -> bool:
    """Whether there is something to claim: two look-ups in an index, no lock."""
    queued = _queued(queues)
    return queued.filter(run_after__isnull=True).exists() or queued.filter(run_after__lte=clock()).exists()


def held(worker: UUID) -> list[Job]:
    """Return the jobs that a worker still holds: of each what its guards need."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    return list(running.only("id", "fence", "state", "user"))


def put_off(jobs: Sequence[Job], timeouts: Mapping[str, float]) -> None:
    """Count the deadlines of claimed jobs from now: their timeout is only known now, or they wait for a thread."""
    now = clock()
    rows = [((now + timedelta(seconds=timeouts[job.task_path] + BEYOND_TIMEOUT),), job) for job in jobs]
    ours(lambda: _write("deadline=%s", rows))


def report(jobs: Sequence[Job]) -> None:
    """Store the progress of running jobs."""

    def write() -> None:
        _write(
            "progress_current=%s, progress_total=%s, progress_message=%s, version=version+1",
            [(_progress(job), job) for job in jobs],
        )
        streams.ring(job.user_id for job in jobs)

    ours(write)


def finish(group: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Record outcomes with their notifications, numbered, in one transaction.

    Returns those that are stored and those that are void: their job was taken over by another worker. What is
    in neither list was locked by somebody else and waits for the next group. Raises ``django.db.DataError``
    or ``IntegrityError`` when the group cannot be stored.
    """
    stored: list[Outcome] = []
    void: list[Outcome] = []
    more = False

    def record() -> None:
        nonlocal more
        stored.clear()
        void.clear()
        held = _hold(group, void)
        now = clock()
        for outcome in held:
            job = outcome.job
            job.state, job.result, job.error, job.finished_at = (
                outcome.state,
                outcome.result,
                outcome.error,
                now,
            )
            job.seq = 0 if job.user_id is None else None
        _write(
            "state=%s, result=%s, error=%s, finished_at=%s, seq=%s, version=version+1, "
            "progress_current=%s, progress_total=%s, progress_message=%s",
            [
                ((o.job.state, o.job.result, o.job.error, now, o.job.seq, *_progress(o.job)), o.job)
                for o in held
            ],
        )
        _insert_attempts((outcome.job, outcome, now) for outcome in held if outcome.attempt)
        told = [outcome for outcome in held if outcome.notification]
        Notification.objects.using(database()).bulk_create([o.notification for o in told])  # type: ignore[misc]
        for outcome in told:
            _let_receivers_record(outcome)
        stored.extend(held)
        more = streams.number_here({o.job.user_id for o in held if o.job.user_id is not None})

    ours(record)
    if more:
        streams.number({outcome.job.user_id for outcome in stored if outcome.job.user_id is not None})
    return stored, void


def release(jobs: Sequence[Job]) -> None:
    """Give running jobs back to the queue at a shutdown; the attempt does not count."""

    def write() -> None:
        _write(
            "state='queued', worker=NULL, deadline=NULL, attempt=attempt-1, version=version+1",
            [((), job) for job in jobs],
        )
        streams.ring([job.user_id for job in jobs], queue=True)

    if jobs:
        ours(write)


def postpone(job: Job) -> bool:
    """Give back a job whose task this worker does not know: another version of the program may. No attempt counts.

    Returns False, and changes nothing, when workers have met it for a day and none knew it.
    """
    # While such a job is queued, its deadline says until when a worker must know it. It is set when the first worker
    # meets the job: created_at and queued_at would count the time that a job for later has only waited, and run_after
    # moves. A claim puts its own deadline over it, and keeps this one in known_by.
    now = clock()
    known_by = getattr(job, "known_by", None) or now + timedelta(seconds=UNKNOWN_FAILS)
    if known_by < now:
        return False

    def write() -> None:
        _write(
            "state='queued', worker=NULL, deadline=%s, attempt=attempt-1, version=version+1, run_after=%s",
            [((known_by, now + timedelta(seconds=OFFERED_AGAIN)), job)],
        )
        streams.ring([job.user_id])

    ours(write)
    return True


def send_back(job: Job) -> None:
    """Give back a job for which this worker has no thread: another worker may. No attempt counts."""

    def write() -> None:
        _write(
            "state='queued', worker=NULL, deadline=NULL, attempt=attempt-1, version=version+1, run_after=%s",
            [((clock() + timedelta(seconds=OFFERED_AGAIN),), job)],
        )
        streams.ring([job.user_id])

    ours(write)


def reap(
    gone: Iterable[UUID] = (),
    *,
    leases: bool = True,
    record: Callable[[list[Outcome]], object] | None = None,
) -> int:
    """Take running jobs away from workers that are gone, and return how many.

    ``gone`` are workers known to be dead; with ``leases`` also those whose lease, or whose job's deadline, is over.
    A job with attempts left is queued again, another one fails and its owner is told, by ``record`` unless ``finish``
    will do.
    """
    gone = list(gone)

    def take() -> list[Job]:
        now = clock()
        jobs = list(_locked(_lost(gone, leases))[:100])
        again = [job for job in jobs if job.attempt < job.max_attempts]
        _insert_attempts((job, None, now) for job in again)
        _write("state='queued', worker=NULL, deadline=NULL, version=version+1", [((), job) for job in again])
        streams.ring([job.user_id for job in again], queue=bool(again))
        return jobs

    reaped = 0
    while _lost(gone, leases).exists() and (jobs := ours(take)):
        reaped += len(jobs)
        ended = [
            outcomes.lost(job, policy_at(job.task_path)) for job in jobs if job.attempt >= job.max_attempts
        ]
        if ended:
            (record or finish)(ended)
        logger.warning("Took %d jobs away from workers that are gone.", len(jobs))
    over = Q(id__in=gone)
    if leases:
        over |= Q(lease_until__lt=clock())
    dead = Worker.objects.using(database()).filter(over)
    if dead.exists():
        ours(dead.delete)
    return reaped


def clock() -> datetime:
    """Return the database's time: leases of several machines are compared by one clock."""
    db = connection()
    if db.vendor != "postgresql":
        return timezone.now()
    with db.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def _lost(gone: list[UUID], leases: bool) -> Any:
    lost = Q(worker__in=gone)
    if leases:
        now = clock()
        alive = Worker.objects.using(database()).filter(lease_until__gte=now).values("id")
        lost |= ~Q(worker__in=alive) | Q(deadline__lt=now)
    # In the order of the index of running jobs: for any other SQLite would walk the whole table.
    return Job.objects.using(database()).filter(lost, state=Job.State.RUNNING).order_by("worker", "id")


def _refuse_too_many(user: Any) -> None:
    limit = settings.ACTIVE_JOBS_PER_USER
    db = connection()
    with db.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT %s) active",
            [Job._meta.get_field("user").get_db_prep_value(user, db), limit],
        )
        if cursor.fetchone()[0] >= limit:
            raise TooManyJobs(limit)


def _due(now: datetime, limit: int, queues: Sequence[str]) -> list[Job]:
    ready = _queued(queues)
    jobs = list(_locked(ready.filter(run_after__isnull=True).order_by("-priority", "id"))[:limit])
    jobs += _locked(ready.filter(run_after__lte=now).order_by("run_after", "id"))[:limit]
    jobs.sort(key=lambda job: (-job.priority, job.id))
    return jobs[:limit]


def _queued(queues: Sequence[str]) -> Any:
    queued = Job.objects.using(database()).filter(state=Job.State.QUEUED)
    return queued.filter(queue_name__in=queues) if queues else queued


def _hold(group: Sequence[Outcome], void: list[Outcome]) -> list[Outcome]:
    """Lock the rows of a group by id and return the outcomes whose claim still holds; note the void ones."""
    ordered = sorted(group, key=lambda outcome: outcome.job.id)
    rows = Job.objects.using(database()).filter(id__in=[outcome.job.id for outcome in ordered]).order_by("id")
    locked = {id: (fence, state) for id, fence, state in _locked(rows).values_list("id", "fence", "state")}
    there = locked
    if len(locked) < len(ordered):
        there = {id: (fence, state) for id, fence, state in rows.values_list("id", "fence", "state")}
    held = []
    for outcome in ordered:
        job = outcome.job
        if there.get(job.id) != (job.fence, Job.State.RUNNING):
            void.append(outcome)
        elif job.id in locked:
            held.append(outcome)
    return held


def _locked(rows: Any) -> Any:
    features = connection().features
    if not features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=True, no_key=features.has_select_for_no_key_update)


def _write(
    assignments: str,
    rows: Sequence[tuple[tuple[Any, ...], Job]],
    *,
    state: str = "running",
    fence: Any = None,
) -> None:
    """Change jobs, each guarded by id, fence and state."""
    if not rows:
        return
    db = connection()
    key = Job._meta.pk

    def adapt(value: Any) -> Any:
        if isinstance(value, datetime):
            return db.ops.adapt_datetimefield_value(value)
        return key.get_db_prep_value(value, db) if isinstance(value, UUID) else value

    with db.cursor() as cursor:
        cursor.executemany(
            f"UPDATE notifications_job SET {assignments} WHERE id=%s AND fence=%s AND state='{state}'",
            [
                (*(adapt(value) for value in values), adapt(job.id), fence(job) if fence else job.fence)
                for values, job in sorted(rows, key=lambda row: row[1].id)
            ],
        )


def _progress(job: Job) -> tuple[Any, ...]:
    return (job.progress_current, job.progress_total, job.progress_message)


def _insert_attempts(rows: Iterable[tuple[Job, Outcome | None, datetime]]) -> None:
    Attempt.objects.using(database()).bulk_create(
        [
            Attempt(
                job_id=job.id,
                number=job.attempt,
                worker=job.worker,
                started_at=job.started_at,
                ended_at=now,
                outcome=outcome.attempt if outcome else Attempt.Outcome.LOST,
                exception_class_path=outcome.exception_class_path if outcome else "",
                traceback=outcome.traceback if outcome else "",
            )
            for job, outcome, now in rows
        ]
    )


def _let_receivers_record(outcome: Outcome) -> None:
    """Call the receivers inside the transaction. One that raises undoes what they wrote for this job, nothing else."""
    if not notification_recording.receivers:
        return
    try:
        with transaction.atomic(using=database()):
            notification_recording.send(Job, notification=outcome.notification, job=outcome.job)
    except (Exception, SystemExit):  # a receiver is the host's code
        logger.exception("A receiver of notification_recording failed for job %s.", outcome.job.id)

"""Run jobs inline, on the calling thread, by a clock that tests can advance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, connections

from notifications.db import clock as db_clock
from notifications.db.transactions import connection, database
from notifications.extension import hooks
from notifications.ids import uuid7
from notifications.jobs.declaring.own_tasks import first_backend_alias


class Clock:
    """The clock by which jobs become due: the database's, plus ``ahead``.

    ``run_after``, the pauses before retries and the leases of workers go by it, in this process only.
    """

    @property
    def ahead(self) -> timedelta:
        """How far the clock was advanced."""
        return db_clock.clock_offset

    @ahead.setter
    def ahead(self, value: timedelta) -> None:
        db_clock.clock_offset = value

    def now(self) -> datetime:
        """Return the current time of the clock."""
        return db_clock.database_now()

    def advance(self, by: float | timedelta) -> None:
        """Advance the clock by seconds or a timedelta."""
        self.ahead += by if isinstance(by, timedelta) else timedelta(seconds=by)

    def reset(self) -> None:
        """Undo all ``advance()``. A TestCase does that at the end of a test: ``self.addCleanup(clock.reset)``."""
        self.ahead = timedelta()


clock = Clock()


def run_jobs(limit: int = 1_000, *, raise_errors: bool = False, among: Any = None) -> int:
    """Run the queued jobs that are due, and the jobs that these enqueue, one after another. Return how many ran.

    Whatever engine their backend has: under a test runner no job is sent to an engine.

    They run on the caller's connection and inside its transaction, with rings and numbering, so it works in a
    ``TestCase``. When a job waits for another job, that one runs meanwhile. Raises RuntimeError after ``limit`` jobs.

    ``raise_errors``
        Raise the exception of the first job that fails, after its outcome is recorded. Later jobs stay queued.
    ``among``
        A ``Q`` of the model ``Job``: the jobs that run. Nothing else happens, as the end of a wait.
    """
    run = InlineRun(limit, raise_errors)
    if among is None:
        run.run_due_jobs()
    while among is not None and run.run_one_or_raise(among):
        pass
    return run.count_or_refuse("run_jobs()")


def run_until_idle(limit: int = 1_000, *, raise_errors: bool = False) -> int:
    """Run the queued jobs, also those that are not yet due, and jobs that wait for a time. Return how many ran.

    As ``run_jobs``. When no job is due, it advances the clock to the next ``run_after``, retry or end of a pause, and
    resets the clock at the end. Jobs of paused queues are not run.
    """
    run = InlineRun(limit, raise_errors)
    before = clock.ahead
    try:
        while True:
            started = clock.now()
            run.run_due_jobs()
            if (next_at := _next_run_after(started)) is None:
                break
            clock.advance(max(next_at - clock.now(), timedelta()))
    finally:
        clock.ahead = before
    return run.count_or_refuse("run_until_idle()")


def _do_what_is_due() -> None:
    """End expired jobs and due waits, and queue scheduled jobs that are due. It makes one query if nothing is."""
    from notifications.jobs import calling_owed
    from notifications.jobs.transitions import expiring, queueing, waiting

    def end_waits() -> None:
        ids = list(waiting.find_due_waits())
        while ids:
            ids = waiting.end_due_waits(ids)

    def queue_due_jobs() -> None:
        while queueing.queue_due_jobs() == 0:
            pass

    acts: tuple[tuple[tuple[str, Sequence[Any]], Callable[[], object]], ...] = (
        (expiring.expired_condition(), lambda: expiring.end_expired_jobs(list(expiring.find_expired_jobs()))),
        (queueing.due_jobs_condition(), queue_due_jobs),
        (waiting.due_condition(), end_waits),
        (calling_owed.due_condition(), calling_owed.call_due),
    )
    conditions = ", ".join(f"({sql})" for (sql, _), _ in acts)
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT {conditions}", [param for (_, params), _ in acts for param in params])
        found = cursor.fetchone()
    for (_, act), is_due in zip(acts, found, strict=True):
        if is_due:
            act()


class InlineRun:
    """A worker for the length of a call, on the caller's thread."""

    def __init__(self, limit: int, raise_errors: bool) -> None:
        self.worker = uuid7()
        self.limit = limit
        self.raise_errors = raise_errors
        self.error: BaseException | None = None
        self.count = 0

    def count_or_refuse(self, call: str) -> int:
        """Return how many jobs ran. Raises ``ImproperlyConfigured`` if none did and no backend stores jobs."""
        if not self.count:
            first_backend_alias(call)
        return self.count

    def run_due_jobs(self) -> None:
        from notifications import streams
        from notifications.jobs.transitions import batch_completion, recording
        from notifications.models import Wait

        _do_what_is_due()
        while True:
            while self.run_one_or_raise():
                pass
            _do_what_is_due()
            due = Wait.objects.using(database()).filter(ended_at=None, remind_at__lte=clock.now())
            for kind in set(due.values_list("kind", flat=True)):
                hooks.find_wait_kind(kind).remind()
            recording.finish_batches(
                batch_completion.find_remaining_batches()
            )  # Batches without jobs. Receivers of their ends may enqueue.
            if not self.run_one_or_raise():
                break
        streams.number_pending()  # notify() numbers after the commit, and a TestCase has none.

    def run_one_or_raise(self, among: Any = None) -> bool:
        """Run the next job, if there is one, and raise its exception if errors are to be raised."""
        ran = self.run_one(among)
        if self.raise_errors and self.error is not None:
            raise self.error
        return ran

    def run_one(self, among: Any = None) -> bool:
        """Run the next job, if there is one."""
        from notifications.jobs.claiming.sources import Source
        from notifications.jobs.transitions import claims, limiting, queueing
        from notifications.jobs.transitions.recording import finish_jobs

        while among is not None and queueing.queue_due_jobs() == 0:
            pass
        with limiting.without_limits():
            # Also the jobs of engines: a project's tests need no broker.
            jobs = claims.claim_jobs(self.worker, 1, among=among, source=Source())
        if not jobs:
            return False
        if self.count == self.limit:
            queueing.release([claimed.row for claimed in jobs])
            raise RuntimeError(
                f"{self.limit} jobs have run and there are more. Do they enqueue one another without end?"
            )
        self.count += 1
        with savepoints():
            outcome = async_to_sync(self._run)(jobs[0])
        finish_jobs([outcome])
        return True

    def run_until_done(self, id: UUID) -> None:
        """Run a job that the running job waits for, or the jobs of a batch."""
        from django.db.models import Q

        from notifications.jobs.job_ends import read_end
        from notifications.jobs.transitions import batch_completion, recording

        while read_end(id) is None:
            if not self.run_one(Q(id=id) | Q(batch=id)) and not self.run_one():
                recording.finish_batches(batch_completion.find_remaining_batches())
                if read_end(id) is None:
                    raise RuntimeError(
                        f"A job waits for job {id}, which is not due, is held back, or waits for that job."
                    )

    async def _run(self, claimed: Any) -> Any:
        import asyncio

        from notifications.jobs.transitions import notify_functions
        from notifications.worker.execution import Execution, prepare_claimed_jobs

        await sync_to_async(prepare_claimed_jobs)([claimed])
        run = Execution(
            claimed,
            lambda run: None,
            parts=_parts_of(tuple(hooks.worker_part.items())),
            run_inline=self.run_until_done,
        )
        outcome = await asyncio.create_task(run.run(None, None))
        if outcome.notify:
            outcome = await sync_to_async(notify_functions.call_here)(outcome)
        self.error = outcome.exception if self.error is None else self.error
        return outcome


@cache
def _parts_of(hooks: tuple[tuple[str, Callable[[None], Any]], ...]) -> dict[str, Any]:
    """Return the parts that these hooks make for jobs that run inline, the same for all: they keep nothing of a run."""
    return {label: make(None) for label, make in hooks}


@contextmanager
def savepoints() -> Iterator[None]:
    """Undo what the block has written on each connection whose transaction it leaves broken.

    A worker runs a job without a transaction, where a query that fails is undone alone. In that of a test case no query
    would work after it.
    """
    points = [
        (db, db.savepoint())
        for db in connections.all(initialized_only=True)
        if db.in_atomic_block and not db.needs_rollback
    ]
    for db, point in points:
        db.savepoint_ids.append(point)  # of which the callbacks after the commit are dropped with it
    try:
        yield
    finally:
        for db, point in points:
            db.savepoint_ids.remove(point)
            try:
                db.savepoint_commit(point)
            except DatabaseError:
                db.needs_rollback = False
                db.savepoint_rollback(point)


def _next_run_after(after: datetime) -> datetime | None:
    """Return when the next job or wait is due that was not due at a time, None without one.

    What is held back although it was due is held back for another reason than its ``run_after``.
    """
    from django.db.models import Min

    from notifications.db.transactions import database
    from notifications.jobs.claiming.queues import paused_queues
    from notifications.models import Job, Wait

    queued = Job.objects.using(database()).filter(state=Job.State.QUEUED, due_at__gt=after)
    next_at: datetime | None = queued.exclude(queue_name__in=paused_queues()).aggregate(at=Min("due_at"))[
        "at"
    ]
    waits = Wait.objects.using(database()).filter(ended_at=None, due_at__gt=after)
    due_at = waits.aggregate(at=Min("due_at"))["at"]
    return min((at for at in (next_at, due_at) if at), default=None)

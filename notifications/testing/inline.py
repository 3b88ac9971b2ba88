"""Run jobs here and now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async

from notifications.ids import uuid7
from notifications.testing.job_clock import clock


def run_jobs(limit: int = 1_000, *, raise_errors: bool = False) -> int:
    """Run what is queued and due now, and what that enqueues, one after the other, and return how many jobs ran.

    Inline, on the caller's connection and inside its transaction, rings and numbering included: it works in a
    ``TestCase``. A job that waits for another one has that one run meanwhile. Raises RuntimeError after ``limit`` jobs.

    ``raise_errors``
        Raise the exception of the first job that fails, when its outcome is recorded; jobs behind it stay queued.
    """
    run = _Run(limit, raise_errors)
    run.what_is_due()
    return run.count


def run_until_idle(limit: int = 1_000, *, raise_errors: bool = False) -> int:
    """Run what is queued, also for later, and return how many jobs ran.

    As ``run_jobs``, and where all that is left waits for its time (``run_after``, a pause before another attempt) the
    clock is moved there. It goes right again at the end. What a pause of its queue holds back is left.
    """
    run = _Run(limit, raise_errors)
    before = clock.ahead
    try:
        run.what_is_due()
        while (pause := _until_next()) is not None:
            clock.advance(pause)
            run.what_is_due()
    finally:
        clock.ahead = before
    return run.count


class _Run:
    """A worker for the length of a call, on the caller's thread."""

    def __init__(self, limit: int, raise_errors: bool) -> None:
        self.worker = uuid7()
        self.limit = limit
        self.raise_errors = raise_errors
        self.error: BaseException | None = None
        self.count = 0

    def what_is_due(self) -> None:
        from notifications import streams
        from notifications.jobs.transitions import finishing

        while True:
            while self._one_or_raise():
                pass
            finishing.finish_remaining_batches()  # batches without jobs, of whose ends receivers may hear
            if not self._one_or_raise():
                break
        streams.number_pending()  # what notify() put off to a commit, which in a TestCase does not come

    def _one_or_raise(self) -> bool:
        ran = self.one()
        if self.raise_errors and self.error is not None:
            raise self.error
        return ran

    def one(self, among: Any = None) -> bool:
        """Run the next job, if there is one."""
        from notifications.jobs.transitions import claims, queueing

        jobs = claims.claim_jobs(self.worker, 1, among=among)
        if not jobs:
            return False
        if self.count == self.limit:
            queueing.release([claimed.row for claimed in jobs])
            raise RuntimeError(
                f"{self.limit} jobs have run and there are more. Do they enqueue one another for ever?"
            )
        self.count += 1
        async_to_sync(self._run)(jobs[0])
        return True

    def until_done(self, id: UUID) -> None:
        """Run a job for which one that runs waits, or the jobs of a batch."""
        from django.db.models import Q

        from notifications.jobs.awaited import read_end
        from notifications.jobs.transitions import finishing

        while read_end(id) is None:
            if not self.one(Q(id=id) | Q(batch=id)) and not self.one():
                finishing.finish_remaining_batches()
                if read_end(id) is None:
                    raise RuntimeError(
                        f"A job waits for job {id}, which is not due, is held back, or waits for the first one."
                    )

    async def _run(self, claimed: Any) -> None:
        import asyncio

        from notifications.jobs.transitions.finishing import finish_jobs
        from notifications.jobs.worker.execution import Execution
        from notifications.jobs.worker.preparation import prepare_claimed_jobs

        await sync_to_async(prepare_claimed_jobs)([claimed])
        run = Execution(claimed, lambda run: None, run_inline=self.until_done)
        outcome = await asyncio.create_task(run.run(None, None))
        self.error = outcome.exception if self.error is None else self.error
        await sync_to_async(finish_jobs)([outcome])


def _until_next() -> Any:
    """Return the time until the next job is due, None if there is none that can begin."""
    from django.db.models import Min

    from notifications.db.transactions import database
    from notifications.jobs.claiming.queues import paused_queues
    from notifications.models import Job

    queued = (
        Job.objects.using(database()).filter(state=Job.State.QUEUED).exclude(queue_name__in=paused_queues())
    )
    next_at = queued.aggregate(at=Min("run_after"))["at"]
    pause = next_at - clock.now() if next_at else None
    return pause if pause and pause.total_seconds() > 0 else None

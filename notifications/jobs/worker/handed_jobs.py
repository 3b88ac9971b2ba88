"""Claim the jobs whose ids a process of an engine is given. It takes the place of the claim loop there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from uuid import UUID

from notifications.jobs.claiming.claimed_job import Claim, ClaimedJob
from notifications.jobs.transitions import claims, handing_over
from notifications.jobs.worker import loops
from notifications.jobs.worker.execution import Execution
from notifications.jobs.worker.preparation import prepare_claimed_jobs, read_timeouts
from notifications.jobs.worker.writer import Writer
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Jobs that one transaction claims at most.
MAX_CLAIM_BATCH = 100


class HandedJobEnd(StrEnum):
    """Why the caller of ``run_handed_job()`` need not wait any longer."""

    #: The outcome of the attempt is stored.
    RECORDED = "recorded"
    #: The job waits for other jobs in ``join()``, and goes on in this process: its caller may run another job.
    JOINING = "joining"
    #: The job may not run now: it runs or is done already, a limit is reached, or its queue is paused.
    NOT_CLAIMED = "not claimed"
    #: The worker has stopped. If the job was running, it is queued again.
    STOPPED = "stopped"


class HandedJobs:
    """Claims jobs by their ids, and passes them to ``start``, until the worker stops.

    ``timeouts`` is that of ``ClaimLoop``. There is no limit of slots: the engine limits its callers.
    """

    def __init__(
        self,
        worker: UUID,
        writer: Writer,
        executions: Mapping[Claim, Execution],
        timeouts: dict[str, float],
        *,
        start: Callable[[ClaimedJob], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._worker = worker
        self._writer = writer
        self._executions = executions
        self._timeouts = timeouts
        self._start = start
        self._is_stopping = is_stopping
        self._wake = asyncio.Event()
        self._callers: dict[UUID, Future[HandedJobEnd]] = {}
        #: Ids that were not claimed yet, in the order in which they were given.
        self._unclaimed: dict[UUID, None] = {}
        self._has_ended = False

    def add(self, id: UUID, call_in_loop: Callable[[Callable[[], object]], object]) -> Future[HandedJobEnd]:
        """Have a job claimed and run, and return the future of its end; from any thread."""
        future: Future[HandedJobEnd] = Future()

        def add_in_loop() -> None:
            if self._has_ended:
                future.set_result(HandedJobEnd.STOPPED)
            elif id in self._callers:  # the engine has doubled the id
                future.set_result(HandedJobEnd.NOT_CLAIMED)
            else:
                self._callers[id] = future
                self._unclaimed[id] = None
                self._wake.set()

        call_in_loop(add_in_loop)
        return future

    async def run(self) -> None:
        """Claim and start jobs until the worker stops."""
        while not self._is_stopping():
            self._wake.clear()
            ids = list(self._unclaimed)[:MAX_CLAIM_BATCH]
            if not ids:
                await self._wake.wait()
                continue
            try:
                jobs = await loops.retry_while_unavailable(
                    lambda ids=ids: self._writer.run(self._claim, ids),  # type: ignore[misc]
                    self._is_stopping,
                )
            except Exception as exc:
                logger.warning(
                    "Could not claim jobs: %r", exc, exc_info=not isinstance(exc, loops.DATABASE_UNAVAILABLE)
                )
                await asyncio.sleep(0 if self._is_stopping() else loops.RETRY_INTERVAL_SECONDS)
                continue
            for id in ids:
                del self._unclaimed[id]
            for claimed in jobs:
                self._start(claimed)
            for id in set(ids) - {claimed.row.id for claimed in jobs}:
                self._release_caller(id, HandedJobEnd.NOT_CLAIMED)

    def wake(self) -> None:
        """Release the callers of jobs that wait for others, and see whether the worker stops."""
        for execution in self._executions.values():
            if execution.joined_jobs:
                self._release_caller(execution.job.id, HandedJobEnd.JOINING)
        self._wake.set()

    def slot_freed(self, job: Job) -> None:
        """Release the caller of a job whose outcome is stored."""
        self._release_caller(job.id, HandedJobEnd.RECORDED)

    def end(self) -> None:
        """Release all callers: the worker has stopped."""
        self._has_ended = True
        for id in list(self._callers):
            self._release_caller(id, HandedJobEnd.STOPPED)

    def _release_caller(self, id: UUID, end: HandedJobEnd) -> None:
        if caller := self._callers.pop(id, None):
            caller.set_result(end)

    def _claim(self, ids: Sequence[UUID]) -> list[ClaimedJob]:
        """Claim jobs on the writer's thread. The others wait to be handed over again."""
        jobs = claims.claim_handed_jobs(self._worker, ids, self._timeouts)
        if not_claimed := set(ids) - {claimed.row.id for claimed in jobs}:
            handing_over.take_back(not_claimed)
        read_timeouts([claimed.row for claimed in jobs], self._timeouts)
        prepare_claimed_jobs(jobs)
        return jobs

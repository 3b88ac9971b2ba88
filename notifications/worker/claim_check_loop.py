"""Check that the claims in the database and the jobs that run here are the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from notifications.db.threads import DaemonExecutor
from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming.claimed_job import Claim, claim_of
from notifications.jobs.transitions import queueing, running
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

CLAIM_CHECK_INTERVAL_SECONDS = 5.0


class ClaimCheckLoop:
    """Cancels executions whose claim is void, releases claimed jobs that do not run, and extends deadlines.

    Claims are read on the thread that claims jobs, so that no claim is under way at that moment.

    ``unstorable``
        Claims without an execution that are not released: their outcome cannot be stored.
    ``remove``
        Frees the slot of a void claim.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        unstorable: set[Claim],
        thread_pools: Sequence[DaemonExecutor],
        remove: Callable[[Claim], None],
    ) -> None:
        self._state = state
        self._unstorable = unstorable
        self._thread_pools = thread_pools
        self._remove = remove
        #: Claims without an execution at the last check.
        self._missing: set[Claim] = set()

    async def run(self) -> None:
        """Check claims for ever."""
        while True:
            await asyncio.sleep(CLAIM_CHECK_INTERVAL_SECONDS)
            for threads in self._thread_pools:
                threads.start_missing_thread()
            try:
                await self._check_claims()
                await self._extend_deadlines()
            except UNAVAILABLE as exc:
                logger.warning("Could not check the claims of running jobs: %s", exc)

    async def _check_claims(self) -> None:
        executions = dict(self._state.executions)
        claimed = {
            claim_of(job): job
            for job in await self._state.claim_writer.run(running.read_claims, self._state.worker)
        }
        for claim, execution in executions.items():
            task = execution.asyncio_task
            if (
                claim in claimed
                or self._state.executions.get(claim) is not execution
                or not task
                or task.done()
            ):
                continue
            logger.warning(
                "Cancelling an execution: another worker has claimed job %s, or it was deleted",
                execution.job.id,
            )
            execution.is_stopping = True
            task.cancel()
            self._remove(claim)
        self._unstorable.intersection_update(claimed)
        # The answer to a claim may be lost with a connection. At the first check it may also still be on its way from
        # the claiming thread to the event loop, so jobs are released at the second one.
        missing = claimed.keys() - self._state.executions.keys() - self._unstorable
        if lost := missing & self._missing:
            logger.warning("Releasing jobs that are claimed but do not run: %d", len(lost))
            await self._state.writer.run(queueing.release, [claimed[claim] for claim in lost])
        self._missing = missing

    async def _extend_deadlines(self) -> None:
        """Extend the deadlines of jobs that wait for a thread: their timeout has not begun."""
        executions = self._state.executions.values()
        if waiting := [execution.job for execution in executions if execution.is_waiting_for_thread]:
            await self._state.writer.run(running.extend_deadlines, waiting, self._state.timeouts)

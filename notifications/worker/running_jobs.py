"""The loops beside the jobs that run: store their progress, cancel them, and check their claims."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from notifications.db.threads import DaemonExecutor
from notifications.db.transactions import chunks
from notifications.db.unavailable import UNAVAILABLE, log_retried
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import queueing, running
from notifications.jobs.transitions.running import Claim, claim_of
from notifications.worker import loops
from notifications.worker.execution import Execution
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Seconds between two writes of progress. However often a task reports, its row is written once in this time.
PROGRESS_INTERVAL_SECONDS = 0.5
#: Seconds until requests of cancellations are read again if no ring comes.
CANCEL_POLL_INTERVAL_SECONDS = 1.0
#: Seconds at least between two reads, however often the queue rings.
MIN_CANCEL_READ_INTERVAL_SECONDS = 0.25
CLAIM_CHECK_INTERVAL_SECONDS = 5.0


class ProgressLoop:
    """Stores the progress of all jobs that reported any, once in each interval, in transactions of a bounded size."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._reports: dict[Claim, Execution] = {}
        self._has_reports = asyncio.Event()

    def add(self, execution: Execution) -> None:
        """Note that a job reported progress, from any thread."""
        self._reports[claim_of(execution.job)] = execution
        if not self._has_reports.is_set():
            self._state.call_in_loop(self._has_reports.set)

    async def run(self) -> None:
        while True:
            await self._has_reports.wait()
            self._has_reports.clear()
            # Taken out one by one, because other threads add to the dict meanwhile.
            reported = [self._reports.pop(claim) for claim in list(self._reports)]
            jobs = [
                execution.job for execution in reported if claim_of(execution.job) in self._state.executions
            ]
            try:
                for group in chunks(jobs):
                    await self._state.writer.run(running.store_progress, group)
            except UNAVAILABLE as exc:
                log_retried(logger, "Could not store the progress of jobs, which is tried again", exc)
                for execution in reported:
                    self._reports.setdefault(claim_of(execution.job), execution)
                self._has_reports.set()
            await asyncio.sleep(PROGRESS_INTERVAL_SECONDS)


class CancelLoop:
    """Reads the requested cancellations of a worker's jobs, and cancels their executions."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Read the requests now."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            await loops.wait_for_event(self._wake, CANCEL_POLL_INTERVAL_SECONDS)
            self._wake.clear()
            if not self._state.executions:
                continue
            requests = await self._state.writer.run(running.cancellations_requested, self._state.worker)
            for id, fence, by_other in requests:
                if execution := self._state.executions.get((id.int, fence)):
                    execution.job.cancelled_by_other = by_other
                    execution.cancel()
            await asyncio.sleep(MIN_CANCEL_READ_INTERVAL_SECONDS)


class ClaimCheckLoop:
    """Cancels executions whose claim is void, releases claimed jobs that do not run, and extends deadlines.

    Claims are read on the thread that claims jobs, so that no claim is under way at that moment.

    ``refused``
        Outcomes of jobs without an execution that are not released: they are tried again.
    ``remove``
        Frees the slot of a void claim.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        refused: dict[Claim, Outcome],
        thread_pools: Sequence[DaemonExecutor],
        remove: Callable[[Claim], None],
    ) -> None:
        self._state = state
        self._refused = refused
        self._thread_pools = thread_pools
        self._remove = remove
        #: Claims without an execution at the last check.
        self._missing: set[Claim] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_CHECK_INTERVAL_SECONDS)
            for threads in self._thread_pools:
                threads.start_missing_thread()
            await self._check_claims()
            await self._extend_deadlines()

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
        # The answer to a claim may be lost with a connection. At the first check it may also still be on its way from
        # the claiming thread to the event loop, so jobs are released at the second one.
        missing = claimed.keys() - self._state.executions.keys() - self._refused.keys()
        if lost := missing & self._missing:
            logger.warning("Releasing jobs that are claimed but do not run: %d", len(lost))
            await self._state.writer.run(queueing.release, [claimed[claim] for claim in lost])
        self._missing = missing

    async def _extend_deadlines(self) -> None:
        """Extend the deadlines of jobs that wait for a thread, whose timeout has not begun.

        And of those whose outcome the database refuses: another worker would run them again.
        """
        executions = self._state.executions.values()
        waiting = [execution.job for execution in executions if execution.is_waiting_for_thread]
        waiting += [outcome.job for outcome in self._refused.values()]
        if waiting:
            # That of a task that cannot be imported any more is not known.
            timeouts = {job.task_path: self._state.timeouts.get(job.task_path, 0.0) for job in waiting}
            await self._state.writer.run(running.extend_deadlines, waiting, timeouts)

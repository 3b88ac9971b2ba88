"""Store the progress that running jobs report."""

from __future__ import annotations

import asyncio
import logging

from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming.claimed_job import Claim, claim_of
from notifications.jobs.transitions import running
from notifications.worker.execution import Execution
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Seconds between two writes of progress. However often a task reports, its row is written once in this time.
PROGRESS_INTERVAL_SECONDS = 0.5


class ProgressLoop:
    """Stores the progress of all jobs that reported any, in one transaction each interval."""

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
        """Store progress for ever."""
        while True:
            await self._has_reports.wait()
            self._has_reports.clear()
            # Taken out one by one, because other threads add to the dict meanwhile.
            reported = [self._reports.pop(claim) for claim in list(self._reports)]
            jobs = [
                execution.job for execution in reported if claim_of(execution.job) in self._state.executions
            ]
            try:
                await self._state.writer.run(running.store_progress, jobs)
            except UNAVAILABLE as exc:
                logger.warning(
                    "Could not store the progress of %d jobs, which is tried again: %s", len(jobs), exc
                )
                for execution in reported:
                    self._reports.setdefault(claim_of(execution.job), execution)
                self._has_reports.set()
            await asyncio.sleep(PROGRESS_INTERVAL_SECONDS)

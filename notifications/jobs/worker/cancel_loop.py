"""Cancel running jobs whose cancellation was requested."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from uuid import UUID

from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming.claimed_job import Claim
from notifications.jobs.transitions import manual
from notifications.jobs.worker import loops
from notifications.jobs.worker.execution import Execution
from notifications.jobs.worker.writer import Writer

logger = logging.getLogger("notifications.jobs")

#: Seconds until requests are read again if no ring comes.
POLL_INTERVAL_SECONDS = 1.0
#: Seconds at least between two reads, however often the queue rings.
MIN_READ_INTERVAL_SECONDS = 0.25


class CancelLoop:
    """Reads the requested cancellations of a worker's jobs, and cancels their executions."""

    def __init__(self, worker: UUID, writer: Writer, executions: Mapping[Claim, Execution]) -> None:
        self._worker = worker
        self._writer = writer
        self._executions = executions
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Read the requests now."""
        self._wake.set()

    async def run(self) -> None:
        """Cancel jobs for ever."""
        while True:
            await loops.wait_for(self._wake, POLL_INTERVAL_SECONDS)
            self._wake.clear()
            if not self._executions:
                continue
            try:
                requests = await self._writer.run(manual.cancellations_requested, self._worker)
            except UNAVAILABLE as exc:
                logger.warning("Could not read cancellation requests: %s", exc)
                requests = []
            for id, fence, by_other in requests:
                if execution := self._executions.get((id, fence)):
                    execution.job.cancelled_by_other = by_other
                    execution.cancel()
            await asyncio.sleep(MIN_READ_INTERVAL_SECONDS)

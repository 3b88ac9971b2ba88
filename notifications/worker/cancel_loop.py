"""Cancel running jobs whose cancellation was requested."""

from __future__ import annotations

import asyncio
import logging

from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.transitions import manual
from notifications.worker import loops
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Seconds until requests are read again if no ring comes.
POLL_INTERVAL_SECONDS = 1.0
#: Seconds at least between two reads, however often the queue rings.
MIN_READ_INTERVAL_SECONDS = 0.25


class CancelLoop:
    """Reads the requested cancellations of a worker's jobs, and cancels their executions."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Read the requests now."""
        self._wake.set()

    async def run(self) -> None:
        """Cancel jobs for ever."""
        while True:
            await loops.wait_for(self._wake, POLL_INTERVAL_SECONDS)
            self._wake.clear()
            if not self._state.executions:
                continue
            try:
                requests = await self._state.writer.run(manual.cancellations_requested, self._state.worker)
            except UNAVAILABLE as exc:
                logger.warning("Could not read cancellation requests: %s", exc)
                requests = []
            for id, fence, by_other in requests:
                if execution := self._state.executions.get((id, fence)):
                    execution.job.cancelled_by_other = by_other
                    execution.cancel()
            await asyncio.sleep(MIN_READ_INTERVAL_SECONDS)

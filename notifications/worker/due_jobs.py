"""Have jobs join the queue when they are due: scheduled ones, and those whose limits open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from notifications.extension import hooks
from notifications.jobs.transitions.limit_openings import open_limits
from notifications.jobs.transitions.queueing import queue_due_jobs
from notifications.worker import loops
from notifications.worker.state import WorkerState

#: Seconds after which the time of the next scheduled job is read again at the latest: a ring says neither that a job
#: was scheduled nor for when. A worker that claims nothing after a ring reads it at once.
POLL_INTERVAL_SECONDS = 0.25


class DueJobsLoop:
    """Queues scheduled jobs that are due, one chunk after another until none is, whatever slots are free.

    Jobs are claimed between two chunks, on the same thread.

    ``on_queued``
        Called on the event loop when jobs have joined the queue.
    """

    def __init__(self, state: WorkerState, on_queued: Callable[[], None]) -> None:
        self._state = state
        self._on_queued = on_queued
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Read the time of the next scheduled job now."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            seconds = await self._state.claim_writer.run(queue_jobs)
            if seconds == 0:
                self._on_queued()
                continue
            pause = POLL_INTERVAL_SECONDS if seconds is None else min(seconds, POLL_INTERVAL_SECONDS)
            await loops.wait_for_event(self._wake, pause)


def queue_jobs() -> float | None:
    """Queue a chunk of scheduled jobs, and one of those whose limits open. Return as ``queue_due_jobs()``.

    Without an extension that has limits a duty ends the waits that are left.
    """
    found = [queue_due_jobs(), open_limits() if hooks.allow_starts else None]
    return min((seconds for seconds in found if seconds is not None), default=None)

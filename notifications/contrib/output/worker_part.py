"""Store the output of a worker's jobs in groups."""

from __future__ import annotations

import asyncio
import logging

from notifications.contrib.output import storage
from notifications.contrib.output.storage import MAX_CHUNK_BYTES, MAX_LAST_BYTES, buffer_of, find_buffer
from notifications.db.unavailable import UNAVAILABLE
from notifications.extension import WorkerPart
from notifications.jobs.transitions.claims import Claim, claim_of
from notifications.models import Job
from notifications.worker import loops
from notifications.worker.execution import Execution
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Seconds for which output is collected into one transaction, unless a job has written a chunk before.
FLUSH_INTERVAL_SECONDS = 0.1
#: Jobs whose output one transaction stores.
MAX_JOBS_PER_TRANSACTION = 50


class OutputLoop(WorkerPart):
    """Stores the output of all jobs that wrote any, in one transaction each interval."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        #: The jobs whose output is not stored yet.
        self._jobs: dict[Claim, Job] = {}
        self._has_output = asyncio.Event()
        self._has_much = asyncio.Event()
        self._has_stored = asyncio.Event()

    def add(self, execution: Execution, text: str) -> None:
        """Take text that a job has written, from any thread."""
        job = execution.job
        buffer = buffer_of(job)
        buffer.append(text)
        self._jobs[claim_of(job)] = job
        if not self._has_output.is_set():
            self._state.call_in_loop(self._has_output.set)
        if len(buffer) >= MAX_CHUNK_BYTES and not self._has_much.is_set():
            self._state.call_in_loop(self._has_much.set)

    async def run(self) -> None:
        """Store output for ever."""
        while True:
            await self._has_output.wait()
            await loops.wait_for(self._has_much, FLUSH_INTERVAL_SECONDS)
            self._has_output.clear()
            self._has_much.clear()
            # Taken out one by one, because other threads add to the dict meanwhile.
            jobs = [self._jobs.pop(claim) for claim in list(self._jobs)[:MAX_JOBS_PER_TRANSACTION]]
            for job in await self._store(jobs):
                self._jobs.setdefault(claim_of(job), job)
                if len(buffer_of(job)) >= MAX_CHUNK_BYTES:
                    self._has_much.set()
            if self._jobs:
                self._has_output.set()
            self._has_stored.set()
            self._has_stored = asyncio.Event()

    async def _store(self, jobs: list[Job]) -> list[Job]:
        """Store the output of jobs, and return those of which something is left."""
        try:
            return await self._state.writer.run(storage.store_output, jobs)
        except UNAVAILABLE as exc:
            logger.warning("Could not store the output of %d jobs, which is tried again: %s", len(jobs), exc)
            await asyncio.sleep(loops.RETRY_INTERVAL_SECONDS)
            return jobs
        except Exception:  # the database refuses that of one job: the others' must be stored
            if len(jobs) > 1:
                return [left for job in jobs for left in await self._store([job])]
            logger.exception("Dropped the output of job %s, which could not be stored", jobs[0].id)
            buffer_of(jobs[0]).close()
            return []

    async def before_outcome(self, job: Job) -> None:
        """Store what a job has written, until little enough is left for the transaction that records its outcome."""
        buffer = find_buffer(job)
        while buffer is not None and len(buffer) > MAX_LAST_BYTES:
            self._has_much.set()
            await self._has_stored.wait()


class InlineOutput(WorkerPart):
    """Keeps what jobs write that run inline, until it is stored with the end of its attempt."""

    def add(self, execution: Execution, text: str) -> None:
        buffer_of(execution.job).append(text)


def make_worker_part(state: WorkerState | None) -> OutputLoop | InlineOutput:
    """Return what stores output in a worker, or without one where jobs run inline."""
    return OutputLoop(state) if state else InlineOutput()

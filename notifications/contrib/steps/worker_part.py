"""Store the results of steps of a worker's jobs in groups."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime

from notifications.contrib.steps import storage
from notifications.contrib.steps.storage import StepWrite
from notifications.db.unavailable import UNAVAILABLE
from notifications.exceptions import AttemptEnded
from notifications.extension import WorkerPart
from notifications.worker import loops
from notifications.worker.execution import Execution
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Results that one transaction stores at most, and their characters, but for the first.
MAX_STORE_BATCH, MAX_STORE_CHARS = 100, 2_000_000


class StepLoop(WorkerPart):
    """Stores the results that wait, in one transaction after the other. Each groups those that came during the last."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._writes: list[StepWrite] = []
        self._has_new = asyncio.Event()
        self._has_ended = False

    def add(
        self, execution: Execution, name: str, result: str, started_at: datetime, ended_at: datetime
    ) -> Future[str]:
        """Take a result to be stored, from any thread. See ``StepWrite`` for the future."""
        write = StepWrite(
            job=execution.job, name=name, result=result, started_at=started_at, ended_at=ended_at
        )
        self._writes.append(write)
        if self._has_ended:
            self.end()
        elif not self._has_new.is_set():
            self._state.call_in_loop(self._has_new.set)
        return write.future

    async def run(self) -> None:
        """Store results for ever."""
        while True:
            if not self._writes:
                await self._has_new.wait()
            self._has_new.clear()
            # Results stay in the list until they are settled, so that no error loses one.
            group = _first_group(self._writes)
            settled = await self._store(group)
            self._writes[: len(group)] = [write for write in group if write not in settled]
            if group and not settled:
                await loops.wait_for(self._has_new, loops.RETRY_INTERVAL_SECONDS)

    def end(self) -> None:
        """End the attempts whose results could not be stored before the worker ended."""
        self._has_ended = True
        while self._writes:
            _fail(self._writes.pop(), AttemptEnded())

    async def _store(self, group: Sequence[StepWrite]) -> set[StepWrite]:
        """Store a group and complete its futures. Returns those that need not be tried again."""
        try:
            stored = await self._state.writer.run(storage.store_steps, group)
        except UNAVAILABLE as exc:
            logger.warning(
                "Could not store the results of %d steps, which is tried again: %s", len(group), exc
            )
            await asyncio.sleep(loops.RETRY_INTERVAL_SECONDS)
            return set()
        except Exception as exc:  # the database refuses one of the group: the others must be stored
            if len(group) == 1:
                _fail(group[0], exc)
                return set(group)
            return {write for one in group for write in await self._store([one])}
        for write, result in stored.items():
            if result is None:
                logger.warning(
                    "Step %r was not stored: another worker has claimed job %s, or it has ended",
                    write.name,
                    write.job.id,
                )
                _fail(write, AttemptEnded())
            else:
                write.future.set_result(result)
        return set(stored)


def _first_group(writes: Sequence[StepWrite]) -> list[StepWrite]:
    group = list(writes[:1])
    size = sum(len(write.result) for write in group)
    for write in writes[1:MAX_STORE_BATCH]:
        size += len(write.result)
        if size > MAX_STORE_CHARS:
            break
        group.append(write)
    return group


def _fail(write: StepWrite, exc: BaseException) -> None:
    if not write.future.done():
        write.future.set_exception(exc)


class InlineSteps(WorkerPart):
    """Stores the results of steps of jobs that run inline, on the caller's connection."""

    def add(
        self, execution: Execution, name: str, result: str, started_at: datetime, ended_at: datetime
    ) -> Future[str]:
        """See ``StepLoop.add()``."""
        write = StepWrite(
            job=execution.job, name=name, result=result, started_at=started_at, ended_at=ended_at
        )
        stored = storage.store_steps([write])[write]
        if stored is None:
            write.future.set_exception(AttemptEnded())
        else:
            write.future.set_result(stored)
        return write.future


def make_worker_part(state: WorkerState | None) -> StepLoop | InlineSteps:
    """Return what stores results in a worker, or without one where jobs run inline."""
    return StepLoop(state) if state else InlineSteps()

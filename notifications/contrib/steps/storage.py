"""Store the results of steps of running jobs, many in one transaction, and which calls have none; delete them.

A part of the worker (``StepLoop``) collects what is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import ChainMap
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from itertools import chain
from operator import or_
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from notifications import times
from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.db import database, insert_rows, retrying_atomic
from notifications.exceptions import AttemptEnded
from notifications.extension import WorkerPart
from notifications.models import Job
from notifications.worker import lock_claims, wait_for_event

if TYPE_CHECKING:
    from notifications.extension import RecordedTransaction
    from notifications.worker import Execution, WorkerState

logger = logging.getLogger("notifications.jobs")

#: Results that one transaction stores at most, and their characters, but for the first.
MAX_STORE_BATCH, MAX_STORE_CHARS = 100, 2_000_000
#: How long a call runs before that is stored, and the seconds between two looks at those that run.
NOTE_AFTER, FOLLOW_INTERVAL_SECONDS = timedelta(seconds=0.5), 0.25
#: Seconds until the next try while the database is unavailable.
RETRY_SECONDS = 0.5


@dataclass(eq=False, kw_only=True, slots=True)
class StepWrite:
    """A call of a step of the claim that ``job`` holds, of which something is stored.

    ``ended_at``
        None while it runs.
    ``result``
        What it has returned, as JSON; None if it has raised.
    ``is_noted``
        It may be stored that it runs.
    ``future``
        Completed with the stored result, which is another one if the name existed, or with ``AttemptEnded``.
    """

    job: Job
    name: str
    started_at: datetime
    result: str | None = None
    ended_at: datetime | None = None
    execution: Execution | None = None
    is_noted: bool = False
    future: Future[str] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # what was paid for is stored even if its task is cancelled

    def end(self, result: str | None) -> None:
        """Take what the call has returned, None if it has raised."""
        self.result, self.ended_at = result, times.now()


def store_steps(group: Sequence[StepWrite]) -> dict[StepWrite, str | None]:
    """Store calls that have ended in one transaction, conditional on fence and state of their jobs, which it locks.

    Returns for each the result that is stored now, "" if it has raised, None if the claim is void, so that nothing was
    stored. One that is left out has a row that another transaction holds locked: try it again. Raises
    ``django.db.DataError`` when the database refuses one of the group.
    """
    return retrying_atomic(lambda: _store(group))


def note_running(calls: Sequence[StepWrite]) -> list[StepWrite]:
    """Store in one transaction that calls run, under the same conditions. Returns those that need no other try."""

    def note() -> list[StepWrite]:
        valid = _check_claims(calls)
        # Those of this thread's earlier transactions have ended, and what is stored of them is whole.
        _write_unfinished([call for call, is_valid in valid.items() if is_valid and call.ended_at is None])
        return list(valid)

    return retrying_atomic(note)


def delete_repeated_steps(change: str, jobs: Sequence[Any], tx: RecordedTransaction) -> tuple[()]:
    """Delete the steps of jobs that are retried from their start. See ``Extension.on_change()``."""
    if change == "restarted":
        for model in (Step, UnfinishedStep):
            model.objects.using(database()).filter(job__in=jobs).delete()
    return ()


def _store(group: Sequence[StepWrite]) -> dict[StepWrite, str | None]:
    claims = _check_claims(group)
    results = {write: (write.result or "") if is_valid else None for write, is_valid in claims.items()}
    valid = [write for write, is_valid in claims.items() if is_valid]
    _write_unfinished([write for write in valid if write.result is None])
    valid = [write for write in valid if write.result is not None]
    of_these = {"job__in": {write.job.id for write in valid}, "name__in": {write.name for write in valid}}
    # After the lock, without which another transaction could insert the same name. A write whose answer was lost with
    # the connection finds its own row.
    rows = Step.objects.using(database()).filter(**of_these)
    stored = {(job, name): result for job, name, result in rows.values_list("job", "name", "result")}
    results |= {
        write: stored[write.job.id, write.name] for write in valid if (write.job.id, write.name) in stored
    }
    insert_rows(
        [
            Step(
                job=write.job.id,
                name=write.name,
                result=write.result,
                attempt=write.job.attempt,
                started_at=write.started_at,
                ended_at=write.ended_at,
            )
            for write in valid
            if (write.job.id, write.name) not in stored
        ]
    )
    if noted := [
        Q(job=write.job.id, attempt=write.job.attempt, name=write.name) for write in valid if write.is_noted
    ]:
        UnfinishedStep.objects.using(database()).filter(reduce(or_, noted), ended_at=None).delete()
    return results


def _check_claims(writes: Sequence[StepWrite]) -> dict[StepWrite, bool]:
    """Return for each whether its claim is valid, and lock the rows of these jobs, but for those that others hold."""
    claims = lock_claims([write.job for write in writes])
    is_valid = {write: not claims.is_void(write.job) for write in writes}
    return {write: valid for write, valid in is_valid.items() if not valid or write.job.id in claims.rows}


def _write_unfinished(calls: Sequence[StepWrite]) -> None:
    UnfinishedStep.objects.using(database()).bulk_create(
        [
            UnfinishedStep(
                job=call.job.id,
                name=call.name,
                attempt=call.job.attempt,
                fence=call.job.fence,
                started_at=call.started_at,
                ended_at=call.ended_at,
            )
            for call in calls
        ],
        update_conflicts=True,
        unique_fields=("job", "attempt", "name"),
        update_fields=("fence", "started_at", "ended_at"),
    )


class StepLoop(WorkerPart):
    """Stores the results that wait, in one transaction after the other. Each groups those that came during the last.

    Beside it, and much less often, it stores which calls run, and lets open pages know what has begun and ended.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._writes: list[StepWrite] = []
        self._has_new = asyncio.Event()
        self._has_ended = False
        #: The calls that run and are not stored, and the executions of which open pages do not know the last calls.
        self._running: dict[StepWrite, Execution] = {}
        self._changed: dict[Execution, None] = {}
        self._has_news = asyncio.Event()

    def begin(self, execution: Execution, name: str) -> StepWrite:
        """Note that the call of a step begins, on any thread."""
        job = execution.job
        # An execution of the same attempt that was given back may have left one.
        call = StepWrite(
            job=job, name=name, started_at=times.now(), execution=execution, is_noted=job.fence > 1
        )
        self._running[call] = execution
        if not self._has_news.is_set():
            self._state.call_in_loop(self._has_news.set)
        return call

    def drop(self, call: StepWrite) -> None:
        """Note that a call is over. What is stored of it stays, unless its result is stored afterwards."""
        self._running.pop(call, None)

    def add(self, call: StepWrite, result: str | None) -> Future[str]:
        """Take the result of a call to be stored, None if it has raised, from any thread.

        See ``StepWrite`` for the future.
        """
        call.end(result)
        self._writes.append(call)
        if self._has_ended:
            self.end()
        elif not self._has_new.is_set():
            self._state.call_in_loop(self._has_new.set)
        return call.future

    async def run(self) -> None:
        """Store results for ever."""
        loops = [asyncio.create_task(loop) for loop in (self._store_results(), self._follow_calls())]
        try:
            await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()

    async def _store_results(self) -> None:
        while True:
            if not self._writes:
                await self._has_new.wait()
            self._has_new.clear()
            # Results stay in the list until they are settled, so that no error loses one.
            group = _first_group(self._writes)
            settled = await self._store(group)
            self._writes[: len(group)] = [write for write in group if write not in settled]
            if group and not settled:
                await wait_for_event(self._has_new, RETRY_SECONDS)

    async def _follow_calls(self) -> None:
        """Store which calls run for long, and have the versions of jobs rise whose steps have begun or ended.

        That rings for their owners with the next progress that is stored, at most twice a second. A job that has ended
        meanwhile has rung by itself.
        """
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await asyncio.sleep(FOLLOW_INTERVAL_SECONDS)
            await self._note_running()
            changed = [self._changed.popitem()[0] for _ in list(self._changed)]
            for execution in changed:
                if not execution.is_over and execution.job.user_id is not None:
                    execution.on_progress(execution)

    async def _note_running(self) -> None:
        for call, execution in list(self._running.items()):
            if execution.is_over:
                self.drop(call)
        if self._running:
            self._has_news.set()  # they are looked at again
        until = times.now() - NOTE_AFTER
        calls = [call for call in list(self._running) if call.started_at <= until]
        # All of them in each round: those of a job whose row is locked stay, and must not keep others waiting.
        for start in range(0, len(calls), MAX_STORE_BATCH):
            await self._note_group(calls[start : start + MAX_STORE_BATCH])

    async def _note_group(self, calls: list[StepWrite]) -> None:
        for call in calls:
            call.is_noted = True
        noted = await self._state.write_group(note_running, calls, _show_none)
        for call in chain.from_iterable(noted):
            if call in self._running:
                self._changed[self._running[call]] = None
            self.drop(call)

    def end(self) -> None:
        """End the attempts whose results could not be stored before the worker ended."""
        self._has_ended = True
        while self._writes:
            _fail(self._writes.pop(), AttemptEnded())

    async def _store(self, group: list[StepWrite]) -> set[StepWrite]:
        """Store a group and complete its futures. Returns those that need not be tried again."""
        stored = ChainMap(*await self._state.write_group(store_steps, group, _refuse))
        for write, result in stored.items():
            if result is None:
                if write.result is not None:
                    logger.warning(
                        "Step %r was not stored: another worker has claimed job %s, or it has ended",
                        write.name,
                        write.job.id,
                    )
                _fail(write, AttemptEnded())
                continue
            if not write.future.done():  # after a pass of the loop that an error has ended
                write.future.set_result(result)
            if write.execution is not None:
                self._changed[write.execution] = None
                self._has_news.set()
        return set(stored)


def _first_group(writes: Sequence[StepWrite]) -> list[StepWrite]:
    group = list(writes[:1])
    size = sum(len(write.result or "") for write in group)
    for write in writes[1:MAX_STORE_BATCH]:
        size += len(write.result or "")
        if size > MAX_STORE_CHARS:
            break
        group.append(write)
    return group


def _refuse(write: StepWrite, exc: Exception) -> dict[StepWrite, str | None]:
    _fail(write, exc)
    return {write: ""}


def _show_none(call: StepWrite, exc: Exception) -> list[StepWrite]:
    """Have pages not show that a call runs."""
    logger.error("Could not store that the step %r of job %s runs", call.name, call.job.id, exc_info=exc)
    return [call]


def _fail(write: StepWrite, exc: BaseException) -> None:
    if not write.future.done():
        write.future.set_exception(exc)


class InlineSteps(WorkerPart):
    """Stores the results of steps of jobs that run inline, on the caller's connection, and no calls that raise."""

    def begin(self, execution: Execution, name: str) -> StepWrite:
        """See ``StepLoop.begin()``."""
        return StepWrite(job=execution.job, name=name, started_at=times.now())

    def drop(self, call: StepWrite) -> None:
        """See ``StepLoop.drop()``."""

    def add(self, call: StepWrite, result: str | None) -> Future[str]:
        """See ``StepLoop.add()``."""
        call.end(result)
        stored = "" if result is None else store_steps([call])[call]
        if stored is None:
            call.future.set_exception(AttemptEnded())
        else:
            call.future.set_result(stored)
        return call.future


def make_worker_part(state: WorkerState | None) -> StepLoop | InlineSteps:
    """Return what stores results in a worker, or without one where jobs run inline."""
    return StepLoop(state) if state else InlineSteps()

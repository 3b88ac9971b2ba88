"""Store the results of steps of running jobs, many in one transaction; read those of a job, and delete them.

A part of the worker (``StepLoop``) collects what is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Case, F, When
from django.db.models.functions import Length

from notifications.contrib.steps.models import Step
from notifications.contrib.steps.values import decode
from notifications.db import UNAVAILABLE, database, insert_rows, retrying_atomic
from notifications.exceptions import AttemptEnded
from notifications.extension import JobStep, WorkerPart
from notifications.models import Job
from notifications.worker import RETRY_INTERVAL_SECONDS, lock_claims, wait_for_event

if TYPE_CHECKING:
    from notifications.extension import RecordedTransaction
    from notifications.worker import Execution, WorkerState

logger = logging.getLogger("notifications.jobs")

#: Characters of the results that pages show: of longer ones only the size is read.
MAX_RESULT_CHARS = 20_000
#: Results that one transaction stores at most, and their characters, but for the first.
MAX_STORE_BATCH, MAX_STORE_CHARS = 100, 2_000_000


@dataclass(eq=False, kw_only=True, slots=True)
class StepWrite:
    """A result to store for a step of the claim that ``job`` holds.

    ``future``
        Completed with the stored result, which is another one if the name existed, or with ``AttemptEnded``.
    """

    job: Job
    name: str
    result: str
    started_at: datetime
    ended_at: datetime
    future: Future[str] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # what was paid for is stored even if its task is cancelled


def store_steps(group: Sequence[StepWrite]) -> dict[StepWrite, str | None]:
    """Store results in one transaction, each conditional on fence and state of its job, whose row it locks.

    Returns for each the result that is stored now, None if the claim is void, so that nothing was stored. One that is
    left out has a row that another transaction holds locked: try it again. Raises ``django.db.DataError`` when the
    database refuses one of the group.
    """
    return retrying_atomic(lambda: _store(group))


def delete_repeated_steps(change: str, jobs: Sequence[Any], tx: RecordedTransaction) -> tuple[()]:
    """Delete the steps of jobs that are retried from their start. See ``Extension.on_change()``."""
    if change == "restarted":
        Step.objects.using(database()).filter(job__in=jobs).delete()
    return ()


def read_results(job: UUID) -> dict[str, Any]:
    """Return the stored results of a job's steps by name, in the order in which they were stored."""
    rows = Step.objects.using(database()).filter(job=job).order_by("id")
    return {name: decode(result) for name, result in rows.values_list("name", "result")}


def _store(group: Sequence[StepWrite]) -> dict[StepWrite, str | None]:
    jobs = {write.job.id: write.job for write in group}
    claims = lock_claims(jobs.values())
    results: dict[StepWrite, str | None] = {}
    for write in group:
        if write.job.id in claims.void:
            results[write] = None
        elif write.job.id in claims.rows:
            results[write] = write.result
    valid = [write for write, result in results.items() if result is not None]
    # After the lock, without which another transaction could insert the same name. A write whose answer was lost with
    # the connection finds its own row.
    rows = Step.objects.using(database()).filter(
        job__in={write.job.id for write in valid}, name__in={write.name for write in valid}
    )
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
    return results


def list_steps(job: Job, limit: int, *, with_results: bool) -> tuple[list[JobStep], int]:
    """Return the first steps of a job, and the number of all. Without ``with_results`` no result is read."""
    rows = Step.objects.using(database()).filter(job=job.pk)
    columns: dict[str, Any] = {}
    if with_results:
        size = Length("result")
        columns = {"size": size, "text": Case(When(size__lte=MAX_RESULT_CHARS, then=F("result")))}
    found = list(
        rows.annotate(**columns)
        .order_by("id")
        .values("name", "attempt", "started_at", "ended_at", *columns)[:limit]
    )
    first = [
        JobStep(
            row["name"],
            row["attempt"],
            row["started_at"],
            row["ended_at"] - row["started_at"],
            row.get("text"),
            row.get("size"),
        )
        for row in found
    ]
    return first, len(first) if len(first) < limit else rows.count()


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
                await wait_for_event(self._has_new, RETRY_INTERVAL_SECONDS)

    def end(self) -> None:
        """End the attempts whose results could not be stored before the worker ended."""
        self._has_ended = True
        while self._writes:
            _fail(self._writes.pop(), AttemptEnded())

    async def _store(self, group: Sequence[StepWrite]) -> set[StepWrite]:
        """Store a group and complete its futures. Returns those that need not be tried again."""
        try:
            stored = await self._state.writer.run(store_steps, group)
        except UNAVAILABLE as exc:
            logger.warning(
                "Could not store the results of %d steps, which is tried again: %s", len(group), exc
            )
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)
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
        stored = store_steps([write])[write]
        if stored is None:
            write.future.set_exception(AttemptEnded())
        else:
            write.future.set_result(stored)
        return write.future


def make_worker_part(state: WorkerState | None) -> StepLoop | InlineSteps:
    """Return what stores results in a worker, or without one where jobs run inline."""
    return StepLoop(state) if state else InlineSteps()

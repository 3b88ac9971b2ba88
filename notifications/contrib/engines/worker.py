"""The worker of a process of an engine: it claims the jobs of queues for which messages give it slots."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any
from uuid import UUID

from notifications.conf import settings
from notifications.contrib.engines import wakeups
from notifications.jobs import Outcome
from notifications.models import Job
from notifications.worker import JobWorker, wait_for_event

logger = logging.getLogger("notifications.jobs")

ASYNC, SYNC = str(Job.Executor.ASYNC), str(Job.Executor.SYNC)
QUARANTINED = str(Job.Executor.QUARANTINED)
SENDER, EMAIL = str(Job.Executor.SENDER), str(Job.Executor.EMAIL)
#: Sync jobs, and seconds, after which a message gives its slot back to the engine, which may stop the process then.
MAX_JOBS_PER_SLOT, MAX_SLOT_SECONDS = 100, 10.0
#: Seconds without a job or a slot after which a worker ends: idle processes make no query, and have no row.
IDLE_SECONDS = 5.0


class MessageSlot:
    """The slot of a message: sync jobs run in it, one after the other."""

    def __init__(self, source: wakeups.BackendQueue) -> None:
        self.source = source
        #: Done when the engine has it back: whether the worker took it. It may be cancelled until the first job begins.
        self.end: Future[bool] = Future()
        self.jobs, self.since = 0, time.monotonic()
        self.running: set[UUID] = set()

    @property
    def is_used_up(self) -> bool:
        return self.jobs >= MAX_JOBS_PER_SLOT or time.monotonic() - self.since >= MAX_SLOT_SECONDS

    def give_back(self, *, is_taken: bool = True) -> None:
        with contextlib.suppress(InvalidStateError):  # it was cancelled
            self.end.set_result(is_taken)


class SlotClaims:
    """Claims jobs for slots, and beside them async jobs up to ``CONCURRENCY`` and those of the app's own senders.

    It ends when the worker stops, or has been idle for ``IDLE_SECONDS``.
    """

    def __init__(self, worker: EngineWorker, start: Callable[[Any], None]) -> None:
        self._state, self._claims, self._start = worker.state, worker.claims, start
        self._wake = asyncio.Event()
        #: Whether it takes no slots any more.
        self.has_ended = False
        #: The sources that are claimed from next, in this order, and their free slots, of which there may be none.
        self._free: dict[wakeups.BackendQueue, deque[MessageSlot]] = {}
        #: The slots of running jobs.
        self._used: dict[UUID, MessageSlot] = {}
        #: Sources that may have more jobs that take no slot, once others of these have ended.
        self._beside: set[wakeups.BackendQueue] = set()
        #: Claims nothing beside slots any more: the process ends with the last job.
        self.is_closing = False

    def add(self, slot: MessageSlot) -> None:
        """Have a slot used, on the event loop."""
        if self.has_ended:
            return slot.give_back(is_taken=False)
        self._free.setdefault(slot.source, deque()).append(slot)
        self._claims.next_sender_claim = 0.0
        self._wake.set()

    async def run(self) -> None:
        # After an error, which starts it again, the free slots are those of the next claims.
        await self._claim_until_idle()
        self.end()

    async def _claim_until_idle(self) -> None:
        idle_since = time.monotonic()
        while not self._state.is_stopping:
            self._wake.clear()
            if source := self._next_source():
                await self._claim_from(*source)
            elif self._state.executions:
                await wait_for_event(self._wake, IDLE_SECONDS)
            else:
                idle_seconds = 0.0 if self.is_closing else IDLE_SECONDS
                await wait_for_event(self._wake, idle_since + idle_seconds - time.monotonic())
                if not self._wake.is_set():
                    break
                continue
            idle_since = time.monotonic()

    def wake(self) -> None:
        """Free the slots of jobs that wait for others, and see whether the worker stops."""
        for execution in self._state.executions.joining():
            self._free_slot(execution.job.id)
        self._wake.set()

    def task_ended(self, job: Job) -> None:
        """Use the slot of a job for the next one while its outcome is recorded, unless that one may wait for it."""
        if not self._keeps_others_waiting(job):
            self._free_slot(job.id)

    def slot_freed(self, job: Job) -> None:
        """Claim more of what takes no slot, and let others claim what this job has kept from running."""
        self._free_slot(job.id)
        if job.executor != SYNC:
            for source in self._beside:
                self._free.setdefault(source, deque())
        if self._keeps_others_waiting(job):
            wakeups.send(Counter({(job.backend, job.queue_name): 1}))
        self._wake.set()

    def _free_slot(self, id: UUID) -> None:
        if (slot := self._used.pop(id, None)) is None:
            return
        slot.running.discard(id)
        slot.jobs += 1
        if not slot.running:
            self._put_back(slot)

    def _put_back(self, slot: MessageSlot) -> None:
        if self._state.is_stopping or slot.is_used_up:
            wakeups.send(Counter({slot.source: 1}))
            slot.give_back()
        else:
            self._free.setdefault(slot.source, deque()).append(slot)
            self._wake.set()

    def _next_source(self) -> tuple[wakeups.BackendQueue, deque[MessageSlot]] | None:
        """Take a source that may have jobs, and its slots. While the process ends, only one that has slots."""
        while self._free:
            source = next(iter(self._free))
            slots = deque(slot for slot in self._free.pop(source) if not slot.end.done())
            if slots or not self.is_closing:
                return source, slots
        return None

    async def _claim_from(self, source: wakeups.BackendQueue, slots: deque[MessageSlot]) -> None:
        """Claim and start jobs, and give back slots for which there are none.

        Slots that come or are freed meanwhile are for the next claim: this one may have read the queue before.
        """
        free = self._find_free(len(slots))
        try:
            jobs = await self._claims.claim_from(
                source, free, lambda: self._state.is_stopping or any(slot.is_used_up for slot in slots)
            )
            claimed = Counter(job.row.executor for job in jobs)
            for job in jobs:
                if job.row.executor in (SYNC, QUARANTINED):
                    self._use_slot(slots, job.row)
                self._start(job)
            self._beside.discard(source)
            if any(claimed[kind] >= free.get(kind, 0) for kind in (ASYNC, SENDER, EMAIL)):
                self._beside.add(source)
            if len(jobs) >= self._claims.max_batch and slots:
                self._free.setdefault(source, deque()).extend(slots)
                slots = deque()
        finally:
            for slot in slots:
                slot.give_back()

    def _use_slot(self, slots: deque[MessageSlot], job: Job) -> None:
        """Occupy a free slot by a job. One more job than there are slots, a quarantined one, shares that of another."""
        while slots:
            slot = slots.popleft()
            if slot.running or slot.jobs or slot.end.set_running_or_notify_cancel():
                break
        else:
            source = job.backend, job.queue_name
            if not (shared := [slot for slot in self._used.values() if slot.source == source]):
                return
            slot = shared[-1]
        slot.running.add(job.id)
        self._used[job.id] = slot

    def end(self) -> None:
        """Take no slots any more, and give back those that are free."""
        self.has_ended = True
        for slots in self._free.values():
            for slot in slots:
                slot.give_back()
        self._free.clear()

    def end_used(self) -> None:
        """Give back the other slots: no job runs any more."""
        for slot in self._used.values():
            slot.give_back()
        self._used.clear()

    def _find_free(self, slots: int) -> dict[str, int]:
        active = self._state.executions.count_active()
        free = {
            **self._claims.free(),
            # Active are all that have a slot of the built-in worker, sync ones too.
            ASYNC: settings.CONCURRENCY - active[ASYNC] + active[SYNC],
            SYNC: slots,
            QUARANTINED: min(slots, 1 - active[QUARANTINED]),
        }
        return {executor: min(count, self._claims.max_batch) for executor, count in free.items() if count > 0}

    def _keeps_others_waiting(self, job: Job) -> bool:
        """Return whether others may begin only when this job is done: it has a limit, or is quarantined."""
        return job.executor == QUARANTINED or self._claims.has_limit(job)


class EngineWorker(JobWorker):
    """Runs jobs while the engine calls ``run_slot()``, and ends when it is idle. The engine ends the process.

    ``engine``
        The name of the engine whose process this is.
    ``concurrency``
        How many messages the engine takes in this process at once.
    """

    takes_requests = False

    def __init__(
        self,
        *,
        engine: str,
        concurrency: int,
        listen: Callable[[Callable[[Any, bool], None]], Callable[[], None]],
    ) -> None:
        # The name of an engine stands for queues in the row of the worker, so that it is not taken for one that serves
        # the queues of the built-in worker.
        super().__init__(
            listen=listen,
            queues=(f"engine:{engine}",),
            concurrency=concurrency,
            min_sync_threads=concurrency,
        )

    def _make_claim_loop(self) -> SlotClaims:
        self._slots = SlotClaims(self, self._job_runner.start)
        return self._slots

    @property
    def has_ended(self) -> bool:
        """Whether it uses no slots any more."""
        return self._slots.has_ended

    def run_slot(self, slot: MessageSlot) -> bool:
        """Use a slot, and return when the engine has it back; from any thread but the loop's.

        Returns False if the worker has ended without using it.
        """
        self.state.call_in_loop(lambda: self._slots.add(slot))
        while True:
            try:
                return slot.end.result(timeout=1)
            except TimeoutError:
                # While the database is away. Of no effect once a job has begun in it.
                if slot.is_used_up and slot.end.cancel():
                    return True
                if self.state.loop is None or self.state.loop.is_closed():  # it calls nothing any more
                    return slot.end.running()

    def close(self) -> None:
        """End with the last job that runs, from any thread."""
        self._slots.is_closing = True
        self.state.call_in_loop(self._slots.wake)

    def _on_outcome(self, outcome: Outcome) -> None:
        super()._on_outcome(outcome)
        self._slots.task_ended(outcome.job)

    async def run(self) -> None:
        """Run jobs in slots until it is idle. Whatever fails, the engine has all slots back."""
        try:
            await super().run()
        except BaseException:
            logger.exception("The worker of an engine's process failed; the next message starts a new one")
        finally:
            self._slots.end()
            self._slots.end_used()

"""Claim the jobs whose ids a process of an engine is given. It takes the place of the claim loop there."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from uuid import UUID

from notifications.conf import settings
from notifications.contrib.engines import dispatching
from notifications.contrib.engines.group_delay import GroupDelay
from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming.executors import QUARANTINED
from notifications.jobs.transitions import claims
from notifications.jobs.transitions.claims import ClaimedJob
from notifications.models import Job
from notifications.tracing import spans
from notifications.worker import loops
from notifications.worker.capacity import MAX_WAITING_PER_SLOT
from notifications.worker.claim_loop import prepare_claimed_jobs, read_timeouts
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Jobs that one transaction claims at most.
MAX_CLAIM_BATCH = 100
#: Seconds between two looks for children of waiting jobs, and after a claim that found none of them.
POLL_INTERVAL_SECONDS, UNCLAIMED_PAUSE_SECONDS = 1.0, 0.1
#: How often the claim of a job is tried whose row or limit another process has locked, and the seconds between two
#: tries, of which half is random. Such a lock is held for the milliseconds of one transaction.
MAX_LOCK_TRIES, LOCK_RETRY_SECONDS = 10, 0.1
#: Seconds after which a caller does not wait any longer for the claim of its job, as while the database is away. An
#: engine that limits the time of its tasks would kill the process.
MAX_CLAIM_WAIT_SECONDS = 30.0


class WaitFor(StrEnum):
    """What the caller of a dispatched job waits for."""

    #: The worker has taken the job in: it has less than ``concurrency`` jobs of such callers. Many async jobs run at
    #: once then, whatever the number of the engine's own slots, and are claimed and recorded in groups.
    SLOT = "slot"
    #: The task has returned or raised. The outcome is recorded while the caller may give the next job.
    END = "end"
    #: The outcome is stored.
    RECORD = "record"
    #: The outcome is stored, even if the job waits for other jobs in between: the process exits then.
    RECORD_BEFORE_EXIT = "record before exit"


class DispatchedJobEnd(StrEnum):
    """Why the caller of a dispatched job need not wait any longer."""

    #: The job is taken in, and runs in this process.
    ACCEPTED = "accepted"
    #: The task has returned or raised.
    ENDED = "ended"
    #: The outcome of the attempt is stored.
    RECORDED = "recorded"
    #: The job waits for other jobs in ``join()``, and goes on in this process: its caller may run another job.
    JOINING = "joining"
    #: The job may not run now: it runs or is done already, a limit is reached, its queue is paused, or it is
    #: quarantined beside another one.
    NOT_CLAIMED = "not claimed"
    #: The worker has stopped. If the job was running, it is queued again.
    STOPPED = "stopped"


class DispatchedJobs:
    """Claims jobs by their ids, and passes them to ``start``, until the worker stops.

    The engine limits the callers that wait for the end of their jobs; ``NOTIFICATIONS["CONCURRENCY"]`` limits the jobs
    whose callers do not.
    """

    def __init__(self, state: WorkerState, *, start: Callable[[ClaimedJob], None]) -> None:
        self._state = state
        self._concurrency = settings.CONCURRENCY
        self._start = start
        self._wake = asyncio.Event()
        #: Those who wait, with what they wait for, by the ids of their jobs.
        self._callers: dict[UUID, tuple[WaitFor, Future[DispatchedJobEnd]]] = {}
        #: Ids that were not claimed yet, in the order in which they were given.
        self._unclaimed: dict[UUID, None] = {}
        #: Jobs in slots: those that run or are to be claimed, without the ones that wait for other jobs.
        self._in_slots: set[UUID] = set()
        #: Protects the next two and ``_has_ended``, because nothing is given any more after the end.
        self._lock = threading.Lock()
        #: What callers have given that the event loop has not taken in yet: ids, what their callers wait for, and
        #: whether they have a slot.
        self._given: deque[tuple[UUID, WaitFor, Future[DispatchedJobEnd], bool]] = deque()
        self._free_slots = self._concurrency
        #: ``run()`` waits for the next id. Otherwise it takes in by itself what was given meanwhile.
        self._is_idle = True
        #: Callers that wait for a slot.
        self._waiting: dict[UUID, Future[DispatchedJobEnd]] = {}
        #: Ids that came while their jobs were here. One may stand for a retry, whose attempt began meanwhile.
        self._doubled: set[UUID] = set()
        #: How often jobs could not be claimed because another process had locked their rows, or their limits.
        self._lock_tries: Counter[UUID] = Counter()
        self._delay = GroupDelay()
        self._has_ended = False

    def add(
        self, id: UUID, wait_for: WaitFor, call_in_loop: Callable[[Callable[[], object]], object]
    ) -> Future[DispatchedJobEnd]:
        """Have a job claimed and run, and return the future of what its caller waits for; from any thread."""
        future: Future[DispatchedJobEnd] = Future()
        with self._lock:
            if self._has_ended:
                future.set_result(DispatchedJobEnd.STOPPED)
                return future
            # In an idle process the event loop takes the job in, and claims it at once. The engine may stop the process
            # after this call, as Celery does with max_tasks_per_child.
            has_slot = wait_for == WaitFor.SLOT and not self._is_idle and self._free_slots > 0
            if has_slot:
                self._free_slots -= 1
                future.set_result(DispatchedJobEnd.ACCEPTED)
            self._given.append((id, wait_for, future, has_slot))
        if self._is_idle or not has_slot:
            call_in_loop(self._take_given)
        return future

    def _take_given(self) -> None:
        while self._given:
            self._add(*self._given.popleft())

    def _add(self, id: UUID, wait_for: WaitFor, future: Future[DispatchedJobEnd], has_slot: bool) -> None:
        is_known = id in self._callers or id in self._unclaimed or id in self._in_slots or id in self._waiting
        if is_known:  # the engine has doubled the id
            self._doubled.add(id)
            if has_slot:
                self._free_slot()
            else:
                future.set_result(DispatchedJobEnd.NOT_CLAIMED)
        elif wait_for != WaitFor.SLOT:
            self._callers[id] = wait_for, future
            self._set_unclaimed(id)
            self._delay.end()
        elif has_slot:
            self._in_slots.add(id)
            self._set_unclaimed(id)
        else:
            self._waiting[id] = future
            self._fill_slots()
            self._delay.end()

    def _set_unclaimed(self, id: UUID) -> None:
        self._unclaimed[id] = None
        self._wake.set()

    def _free_slot(self) -> None:
        with self._lock:
            self._free_slots += 1
        self._fill_slots()

    def _fill_slots(self) -> None:
        while self._waiting:
            with self._lock:
                if not self._free_slots:
                    return
                self._free_slots -= 1
            id = next(iter(self._waiting))
            self._waiting.pop(id).set_result(DispatchedJobEnd.ACCEPTED)
            self._in_slots.add(id)
            self._set_unclaimed(id)

    async def run(self) -> None:
        """Claim and start jobs until the worker stops."""
        while not self._state.is_stopping:
            self._is_idle = False
            self._wake.clear()
            self._take_given()
            if self._may_claim_later():
                await self._delay.wait()
                self._take_given()
            children = self._find_awaited_children()
            ids = [*children, *list(self._unclaimed)[: MAX_CLAIM_BATCH - len(children)]]
            if not ids:
                self._is_idle = True
                self._take_given()
                # While too many jobs wait for others, also for children that other processes have enqueued.
                await loops.wait_for(self._wake, POLL_INTERVAL_SECONDS)
                continue
            try:
                with self._delay.transaction():
                    jobs, locked = await loops.retry_while_unavailable(
                        lambda ids=ids: self._state.claim_writer.run(self._claim, ids),  # type: ignore[misc]
                        lambda: self._state.is_stopping,
                    )
            except Exception as exc:
                logger.warning("Could not claim jobs: %r", exc, exc_info=not isinstance(exc, UNAVAILABLE))
                await asyncio.sleep(0 if self._state.is_stopping else loops.RETRY_INTERVAL_SECONDS)
                continue
            claimed_ids = {claimed.row.id for claimed in jobs}
            for claimed in jobs:
                self._start(claimed)
            for id in ids:
                if id in locked and self._lock_tries[id] < MAX_LOCK_TRIES:
                    self._lock_tries[id] += 1
                    continue
                self._unclaimed.pop(id, None)
                self._lock_tries.pop(id, None)
                if id not in claimed_ids:
                    self._release(id, DispatchedJobEnd.NOT_CLAIMED)
            if locked:
                await asyncio.sleep(LOCK_RETRY_SECONDS * random.uniform(0.5, 1))
            elif not jobs:
                await asyncio.sleep(UNCLAIMED_PAUSE_SECONDS if children else 0)

    def _may_claim_later(self) -> bool:
        """Return whether no caller waits until a job is claimed, and a later claim may be one of more jobs."""
        is_full = len(self._unclaimed) >= MAX_CLAIM_BATCH or not self._free_slots
        return bool(self._unclaimed) and not is_full and not self._unclaimed.keys() & self._callers.keys()

    def wake(self) -> None:
        """Release the callers of jobs that wait for others, and see whether the worker stops."""
        if not self._has_many_joining():
            for execution in self._state.executions.joining():
                wait_for, _ = self._callers.get(execution.job.id, (WaitFor.RECORD, None))
                if wait_for != WaitFor.RECORD_BEFORE_EXIT:
                    self._release(execution.job.id, DispatchedJobEnd.JOINING)
        self._wake.set()

    def withdraw(self, id: UUID, future: Future[DispatchedJobEnd]) -> None:
        """Release the caller of a job that was not claimed within ``MAX_CLAIM_WAIT_SECONDS``.

        ``future`` is the caller's, because another caller may have given the same id, and have the answer that it
        is taken in.
        """
        self._take_given()
        if not future.done() and (id in self._unclaimed or id in self._waiting):
            self._unclaimed.pop(id, None)
            if self._waiting.pop(id, None):
                future.set_result(DispatchedJobEnd.STOPPED)
            self._release(id, DispatchedJobEnd.STOPPED)

    def ended(self, job: Job) -> None:
        """Release the caller of a job whose task has returned or raised, unless it waits for the record."""
        wait_for, _ = self._callers.get(job.id, (WaitFor.RECORD, None))
        if wait_for == WaitFor.END:
            self._release(job.id, DispatchedJobEnd.ENDED)

    def may_record_later(self, job: Job) -> bool:
        """Return whether no caller waits until the outcome of a job is stored, or for its slot."""
        wait_for, _ = self._callers.get(job.id, (WaitFor.SLOT, None))
        return wait_for in (WaitFor.SLOT, WaitFor.END) and not self._waiting

    def slot_freed(self, job: Job) -> None:
        """Release the caller and the slot of a job whose outcome is stored."""
        if job.id in self._doubled:
            self._doubled.discard(job.id)
            self._set_unclaimed(job.id)
        self._release(job.id, DispatchedJobEnd.RECORDED)

    def end(self) -> list[UUID]:
        """Release all callers: the worker has stopped. Returns the ids that were taken in and not claimed."""
        with self._lock:
            self._has_ended = True
        self._take_given()
        for _, future in self._callers.values():
            future.set_result(DispatchedJobEnd.STOPPED)
        for future in self._waiting.values():
            future.set_result(DispatchedJobEnd.STOPPED)
        left = [*self._unclaimed, *self._waiting]
        self._callers.clear()
        self._waiting.clear()
        return left

    def _has_many_joining(self) -> bool:
        return len(self._state.executions.joining()) >= MAX_WAITING_PER_SLOT * self._concurrency

    def _find_awaited_children(self) -> list[UUID]:
        """Return jobs for which running ones wait, if too many wait. Their own ids are behind those of more parents."""
        if not self._has_many_joining():
            return []
        running = {execution.job.id for execution in list(self._state.executions.values())}
        return sorted(self._state.executions.joined_jobs() - running - self._unclaimed.keys())[
            : self._concurrency
        ]

    def _release(self, id: UUID, end: DispatchedJobEnd) -> None:
        _, future = self._callers.pop(id, (None, None))
        if future:
            future.set_result(end)
        if id in self._in_slots:
            self._in_slots.discard(id)
            self._free_slot()

    def _claim(self, ids: Sequence[UUID]) -> tuple[list[ClaimedJob], set[UUID]]:
        """Claim jobs on the writer's thread, and return them, and the ids that are to be tried again.

        Those are the ids whose rows or limits other processes hold locked. What may not run now waits to be dispatched
        again.
        """
        started = spans.start_time()
        jobs, locked_ids = claims.claim_dispatched_jobs(
            self._state.worker,
            ids,
            self._state.timeouts,
            max_quarantined=1 - self._state.executions.count_active()[QUARANTINED],
        )
        spans.record_claim(started, jobs)
        locked_ids = {id for id in locked_ids if self._lock_tries[id] < MAX_LOCK_TRIES}
        not_claimed = set(ids) - {claimed.row.id for claimed in jobs} - locked_ids
        locked = locked_ids | (dispatching.take_back(not_claimed) if not_claimed else set())
        read_timeouts([claimed.row for claimed in jobs], self._state.timeouts)
        prepare_claimed_jobs(jobs)
        return jobs, locked

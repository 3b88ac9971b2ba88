"""The worker of a process of an engine: it runs the jobs whose ids it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from notifications.conf import settings
from notifications.contrib.engines import dispatching
from notifications.contrib.engines.dispatched_jobs import (
    MAX_CLAIM_WAIT_SECONDS,
    DispatchedJobEnd,
    DispatchedJobs,
    WaitFor,
)
from notifications.contrib.engines.drained_queues import DrainedQueues
from notifications.contrib.engines.group_delay import GroupDelay
from notifications.extension import BackendQueue
from notifications.jobs.claiming.executors import ENGINE_SENDER, QUARANTINED
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.claims import Claim
from notifications.models import Job
from notifications.worker.record_loop import RecordLoop
from notifications.worker.worker import JobWorker


class EngineWorker(JobWorker):
    """Runs only the jobs that it is given by ``run_dispatched_job()``, as many at once as there are callers.

    How many jobs the process runs, and when it ends, is decided by the engine.

    ``engine``
        The name of the engine whose process this is.
    ``concurrency``
        How many jobs the engine runs in this process at once; ``NOTIFICATIONS["CONCURRENCY"]`` by default.
    ``dispatch``
        Called once a second, when the queue rings, and when a quarantined job has ended, on the writer's thread, with
        ``DrainedQueues.take()``, and with whether such a job has ended.
    """

    takes_requests = False

    def __init__(
        self,
        *,
        engine: str,
        concurrency: int | None = None,
        listen: Callable[[Callable[[Any, bool], None]], Callable[[], None]] | None = None,
        dispatch: Callable[[Mapping[BackendQueue, float], bool], object] | None = None,
    ) -> None:
        self.engine = engine
        self._dispatch_round = dispatch
        concurrency = concurrency or settings.CONCURRENCY
        self._drained_queues = DrainedQueues(concurrency)
        #: A quarantined job has ended here since the last dispatch: the next one is sent without a pause.
        self._has_room = False
        # The name of an engine stands for queues in the row of the worker, so that it is not taken for one that serves
        # the queues of the built-in worker.
        super().__init__(listen=listen, queues=(f"engine:{engine}",), concurrency=concurrency)

    def _make_claim_loop(self) -> DispatchedJobs:
        self._dispatched_jobs = DispatchedJobs(self.state, start=self._job_runner.start)
        return self._dispatched_jobs

    def _make_record_loop(self) -> RecordLoop:
        return RecordLoop(self.state, self._remove, self._may_record_later, GroupDelay())

    def run_dispatched_job(self, id: UUID, wait_for: WaitFor = WaitFor.RECORD) -> DispatchedJobEnd:
        """Run a job that was dispatched to this engine, and wait for ``wait_for``; from any thread but the loop's.

        The worker must run, or start to run within a short time.
        """
        dispatched_jobs = self._dispatched_jobs
        withdraw_at = time.monotonic() + MAX_CLAIM_WAIT_SECONDS
        with self._drained_queues.occupy_slot():
            future = dispatched_jobs.add(id, wait_for, self.state.call_in_loop)
            while True:
                try:
                    return future.result(timeout=1)
                except TimeoutError:
                    if time.monotonic() > withdraw_at:  # of no effect on a job that runs
                        self.state.call_in_loop(lambda: dispatched_jobs.withdraw(id, future))
                    if (
                        self.state.loop is None or self.state.loop.is_closed()
                    ):  # it failed, and calls nothing any more
                        return DispatchedJobEnd.STOPPED

    def _next_dispatch(self) -> Callable[[], object] | None:
        if self._dispatch_round is None:
            return None
        has_room, self._has_room = self._has_room, False
        return partial(self._dispatch_round, self._drained_queues.take(), has_room)

    def _remove(self, claim: Claim) -> None:
        quarantined = self.state.executions.count_active()[QUARANTINED]
        super()._remove(claim)
        if self.state.executions.count_active()[QUARANTINED] < quarantined:
            self._has_room = True
            self._dispatch_wake.set()

    def _on_slot_freed(self, job: Job) -> None:
        super()._on_slot_freed(job)
        self._drained_queues.add(job)
        if job.executor == ENGINE_SENDER:  # the next one may be dispatched
            self._dispatch_wake.set()

    def _on_outcome(self, outcome: Outcome) -> None:
        super()._on_outcome(outcome)
        self._dispatched_jobs.ended(outcome.job)

    def _may_record_later(self, outcome: Outcome) -> bool:
        return self._dispatched_jobs.may_record_later(outcome.job)

    async def _release_jobs(self, unfinished: list[Job]) -> None:
        unclaimed = self._dispatched_jobs.end()
        await super()._release_jobs(unfinished)
        if unclaimed:
            await self.state.writer.run(dispatching.take_back, unclaimed)

"""The worker: owns the loops that claim, run and record jobs, and everything that they share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Protocol

from notifications.conf import settings
from notifications.db.unavailable import QUERY_ERRORS
from notifications.extension.installed import make_worker_parts
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import reaping
from notifications.jobs.transitions.running import Claim
from notifications.models import Job, Worker
from notifications.worker import loops
from notifications.worker.claim_loop import ClaimLoop
from notifications.worker.due_jobs import DueJobsLoop
from notifications.worker.event_loop import process_loop
from notifications.worker.execution import Execution
from notifications.worker.forks import prepare_forks
from notifications.worker.job_runner import JobRunner
from notifications.worker.lease import Lease
from notifications.worker.loops import RunLimit
from notifications.worker.maintenance import Maintenance
from notifications.worker.record_loop import RecordLoop
from notifications.worker.running_jobs import CancelLoop, ClaimCheckLoop, ProgressLoop
from notifications.worker.state import MAX_SYNC_THREADS, WorkerState
from notifications.worker.subtasks import is_subtask, make_task
from notifications.worker.watchdog import Watchdog

logger = logging.getLogger("notifications.jobs")

#: Seconds at a stop, beyond the grace period: for cancelled tasks to end, and for outcomes to be recorded.
STOP_MARGIN_SECONDS = 2.0
#: Seconds at a stop in which signals can be sent, at least.
MIN_SIGNALS_GRACE_SECONDS = 2.0


class Claiming(Protocol):
    """What claims the jobs of a worker, on the event loop."""

    async def run(self) -> None:
        """Claim and start jobs until the worker stops."""

    def wake(self) -> None:
        """See whether there are jobs, whether a slot is free, and whether the worker stops."""

    def slot_freed(self, job: Job) -> None:
        """Take note that the outcome of a job is stored."""


class JobWorker:
    """Runs jobs in the event loop that awaits ``run()``, until ``stop()``.

    ``listen``
        A function of the doorbell that takes a callback ``(users, queue)`` and returns a function that disconnects it.
        Without it the queue is read once a second.
    ``queues``
        Names of queues; all if empty.
    ``concurrency``
        Jobs that run at once; ``NOTIFICATIONS["CONCURRENCY"]`` by default.
    ``run_limit``
        When the worker ends by itself; never by default.
    ``min_sync_threads``
        Threads for sync tasks: so many, at least ``MAX_SYNC_THREADS``. By default ``concurrency``, at most those.
    ``is_process``
        Whether the process is there for this worker only, and ends if the event loop does not come back.

    A job that is claimed is executed by the job runner, which passes its outcome to the record loop; its slot is free
    again when the outcome is stored. The parts do not know one another: they share ``state``, and call what they
    are given here.
    """

    #: Whether staff can quiet and stop it in the admin.
    takes_requests = True
    #: See ``Watchdog.exit_seconds``.
    exit_seconds: float | None = None

    def __init__(
        self,
        *,
        listen: Callable[[Callable[[Any, bool], None]], Callable[[], None]] | None = None,
        queues: Sequence[str] = (),
        concurrency: int | None = None,
        run_limit: RunLimit | None = None,
        min_sync_threads: int | None = None,
        is_process: bool = False,
    ) -> None:
        queues = tuple(queues)
        concurrency = concurrency or settings.CONCURRENCY
        self.lease = Lease(
            queues=queues,
            concurrency=concurrency,
            load=lambda: self.state.executions.count_slots(),
            on_request=self._on_request if self.takes_requests else None,
        )
        self.state = state = WorkerState(
            worker=self.lease.worker,
            queues=queues,
            concurrency=concurrency,
            sync_threads=min_sync_threads and max(MAX_SYNC_THREADS, min_sync_threads),
            run_limit=run_limit or RunLimit(),
        )
        self._listen = listen
        self._is_process = is_process
        self._grace = 0.0
        self._stop_deadline = 0.0
        self._slot_freed = asyncio.Event()
        self._record_loop = RecordLoop(state, self._remove)
        self._progress_loop = ProgressLoop(state)
        self._parts = make_worker_parts(state)
        self._cancel_loop = CancelLoop(state)
        self._job_runner = JobRunner(
            state,
            on_outcome=self._on_outcome,
            on_progress=self._progress_loop.add,
            on_join=self._on_join,
            parts=self._parts,
            remove=self._remove,
        )
        self._due_jobs_loop = DueJobsLoop(state, lambda: self._claim_loop.wake())
        self.claims = ClaimLoop(
            state,
            start=self._job_runner.start,
            stop=self.stop,
            on_nothing_claimed=self._due_jobs_loop.wake,
        )
        self._claim_loop = self._make_claim_loop()
        self._claim_check_loop = ClaimCheckLoop(
            state,
            refused=self._record_loop.refused,
            thread_pools=(self._job_runner.sync_threads, self._job_runner.email_threads),
            remove=self._remove,
        )

    def _make_claim_loop(self) -> Claiming:
        """Return what decides when jobs are claimed, by ``claims``."""
        return self.claims

    def start(self) -> Future[None]:
        """Run on the event loop of this process's workers, which is another thread. Raises ``NoThread``.

        ``stop_loop()`` ends that when no other worker follows.
        """
        self.state.loop = process_loop.start()
        return process_loop.submit(self.run)

    @staticmethod
    def stop_loop(seconds: float) -> None:
        """Close the event loop of this process's workers, within some seconds."""
        process_loop.stop(seconds)

    async def run(self) -> None:
        """Run jobs until ``stop()``; then let running jobs finish within the grace period, and release the others."""
        prepare_forks()
        self.state.loop = asyncio.get_running_loop()
        self.state.loop.set_task_factory(make_task)
        maintenance = Maintenance(
            self.lease, self.state.writer.run, lambda: self.state.call_in_loop(self._claim_loop.wake)
        )
        try:
            if await self._start(maintenance):
                await self._run_loops(maintenance)
        finally:
            await maintenance.end(MIN_SIGNALS_GRACE_SECONDS)
            await self._end()

    async def _start(self, maintenance: Maintenance) -> bool:
        """Begin the lease. Returns False if the worker is stopped while the database is away."""
        try:
            await self._job_runner.open()
            await self.state.retry_write(self.lease.start)
            await maintenance.prepare_hooks()
            await self.state.retry_write(maintenance.reap_dead_neighbors)
        except QUERY_ERRORS as exc:
            logger.info("Worker %s was stopped while the database was away: %s", self.lease.worker, exc)
            return False
        logger.info("Worker %s runs %d jobs at a time", self.lease.worker, self.state.concurrency)
        return True

    async def _run_loops(self, maintenance: Maintenance) -> None:
        with ExitStack() as started:
            watchdog = Watchdog(asyncio.get_running_loop(), self._may_end_process, self.exit_seconds)
            started.callback(watchdog.stop)
            if self._listen:
                started.callback(self._listen(self._on_ring))
            background = [
                asyncio.create_task(loops.run_to_end(step))
                for step in (
                    self._record_loop.run,
                    self._progress_loop.run,
                    *(part.run for part in self._parts.values()),
                    self._cancel_loop.run,
                    self._claim_check_loop.run,
                    self._due_jobs_loop.run,
                    maintenance.run_duties,
                    *maintenance.own_loops,
                )
            ]
            try:
                await loops.run_to_end(self._claim_loop.run, lambda: self.state.is_stopping)
                await self._let_jobs_finish()
            finally:
                await self._stop_jobs()
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                for part in self._parts.values():
                    part.end()

    def stop(self, grace: float | None = None) -> None:
        """Claim no more jobs, and end within ``grace`` seconds, ``GRACE`` by default; from any thread."""
        self._grace = settings.GRACE if grace is None else grace
        self.state.stop()
        self.state.call_in_loop(self._wake)

    def _on_request(self, request: str) -> None:
        logger.info("Worker %s was requested: %s", self.lease.worker, request or "resume")
        if request == Worker.Request.STOP:
            return self.stop()
        self.state.is_quiet = request == Worker.Request.QUIET
        self.state.call_in_loop(self._wake)

    def _remove(self, claim: Claim) -> None:
        execution = self.state.executions.remove(claim)
        self._slot_freed.set()
        if execution:
            self._on_slot_freed(execution.job)

    def _on_slot_freed(self, job: Job) -> None:
        self._claim_loop.slot_freed(job)

    def _on_join(self, execution: Execution) -> None:
        self.state.executions.add_joining(execution)
        self.state.call_in_loop(self._claim_loop.wake)

    def _on_outcome(self, outcome: Outcome) -> None:
        self._record_loop.add(outcome)

    def _on_ring(self, users: Any, queue: bool) -> None:
        """Take a ring of the doorbell, from any thread. Rings of streams do not matter to a worker."""
        if queue:
            self.state.call_in_loop(self._wake)

    def _wake(self) -> None:
        self._claim_loop.wake()
        self._cancel_loop.wake()
        self._slot_freed.set()

    def _may_end_process(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether to end the process when this task has blocked the event loop for long: not for a job."""
        is_job = task is not None and (
            is_subtask(task)
            or any(task is execution.asyncio_task for execution in self.state.executions.values())
        )
        return self._is_process and not is_job

    async def _let_jobs_finish(self) -> None:
        """Let running jobs finish within the grace period."""
        self._stop_deadline = time.monotonic() + self._grace
        while self.state.executions and (remaining := self._stop_deadline - time.monotonic()) > 0:
            self._slot_freed.clear()
            await loops.wait_for_event(self._slot_freed, remaining)

    async def _stop_jobs(self) -> None:
        """Cancel the jobs that run, and wait until outcomes are recorded."""
        await self._job_runner.stop_all(STOP_MARGIN_SECONDS)
        while not self._record_loop.is_empty and time.monotonic() < self._stop_deadline + STOP_MARGIN_SECONDS:
            self._slot_freed.clear()
            await loops.wait_for_event(self._slot_freed, 0.1)

    async def _end(self) -> None:
        self.lease.stop()
        # If an exception ended the loop, one of the jobs may be the cause: they are reaped, so their attempts count.
        unfinished = dict(self.state.executions) if self.state.is_stopping else {}
        jobs = [execution.job for execution in unfinished.values()]
        begun = {claim for claim, execution in unfinished.items() if execution.has_begun}
        try:
            await self.state.writer.run(reaping.release_at_stop, jobs, begun)
            await self.state.writer.run(self.lease.end)
        except QUERY_ERRORS as exc:
            logger.warning(
                "Could not release %d jobs, which are reaped when the lease is over: %s", len(unfinished), exc
            )
        await self.state.signals.drain(max(self._stop_deadline - time.monotonic(), MIN_SIGNALS_GRACE_SECONDS))
        self._job_runner.shutdown()
        self.state.end()
        logger.info("Worker %s has ended; jobs released: %d", self.lease.worker, len(unfinished))

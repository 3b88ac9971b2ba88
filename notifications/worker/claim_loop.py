"""Claim jobs for what a worker has free."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db.models import Q

from notifications.db.schema import wait_for_tables
from notifications.db.transactions import call_after_write
from notifications.db.unavailable import UNAVAILABLE, log_retried
from notifications.jobs import results
from notifications.jobs.claiming.candidates import has_limited_jobs
from notifications.jobs.claiming.executors import (
    ASYNC,
    PROJECT_EXECUTORS,
    SENDER_EXECUTORS,
    WORKER_EXECUTORS,
)
from notifications.jobs.claiming.sources import BackendQueue, Source, builtin_source
from notifications.jobs.transitions import batch_completion, claims, running
from notifications.jobs.transitions.running import ClaimedJob, claim_of
from notifications.models import Job
from notifications.tracing import spans
from notifications.worker import loops
from notifications.worker.capacity import (
    executors_freed_by,
    exhausted_executors,
    subtract,
)
from notifications.worker.due_jobs import queue_jobs
from notifications.worker.execution import prepare_claimed_jobs
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Jobs that one transaction claims at most.
MAX_CLAIM_BATCH = 100
#: Seconds until the queue is read again if no ring comes.
POLL_INTERVAL_SECONDS = 1.0
#: When too many jobs wait for others, still claim one other job per this many seconds.
OVER_LIMIT_CLAIM_INTERVAL_SECONDS = 1.0
#: Seconds between two claims of the app's own senders. They have a statement of their own, because they take none of
#: the slots that the limit of the others counts, and their concurrency keys would cost each claim its short way.
SENDER_CLAIM_INTERVAL_SECONDS = 0.1


class ClaimLoop:
    """Claims jobs and passes them to ``start``, until the worker stops. Calls ``stop`` at its run limit.

    ``max_batch``
        Jobs that one transaction claims at most.
    ``on_nothing_claimed``
        Called when the queue was read and had no jobs for the worker: what has rung may have been scheduled.
    """

    max_batch = MAX_CLAIM_BATCH

    def __init__(
        self,
        state: WorkerState,
        *,
        start: Callable[[ClaimedJob], None],
        stop: Callable[[], None],
        on_nothing_claimed: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self._start = start
        self._stop = stop
        self._on_nothing_claimed = on_nothing_claimed
        self._wake = asyncio.Event()
        #: Executors that the last claim found full, so that there may be more jobs for them.
        self._exhausted_executors: set[str] = set()
        self._last_over_limit_claim = time.monotonic()
        #: When senders may be claimed again (monotonic), if that is later than now.
        self.next_sender_claim = 0.0
        self._has_left_out_senders = False
        #: The backend and the queue of which jobs are claimed; None: those that the built-in worker claims.
        self._only_queue: BackendQueue | None = None

    async def run(self) -> None:
        while not self._state.is_stopping:
            self._wake.clear()
            # Before the claim: a job that ends during it may have enqueued others, which the claim has not seen.
            was_idle = not self._state.executions
            jobs, exhausted = await self._state.claim_writer.run(self._claim)
            self._state.run_limit.add_started(len(jobs))
            for claimed in jobs:
                # After a crash of PostgreSQL lost the claim of a job that runs here, it is claimed anew as it was.
                if claim_of(claimed.row) not in self._state.executions:
                    self._start(claimed)
            if was_idle and not jobs and self._state.run_limit.is_reached_when_idle():
                if await self._state.claim_writer.run(queue_jobs) == 0:
                    continue
                self._stop()
                return
            if not jobs:
                self._on_nothing_claimed()
            many_wait = self._state.capacity.has_many_waiting()
            self._exhausted_executors = set(WORKER_EXECUTORS) if many_wait else exhausted
            # A slot that was freed during the claim has not woken this loop: slot_freed() compared it with the
            # executors of the claim before.
            if not (exhausted & self._state.capacity.free().keys() or (jobs and many_wait)):
                await loops.wait_for_event(self._wake, self._seconds_to_next_claim())

    async def claim_from(
        self, queue: BackendQueue, free: Mapping[str, int], is_stopping: Callable[[], bool]
    ) -> list[ClaimedJob]:
        """Claim jobs of one queue, for what the caller has free, and start none.

        While the database is away it is tried again, until ``is_stopping`` returns True.

        ``free``
            How many jobs of each executor may run, of which at most ``max_batch`` are claimed. Senders are left out if
            they were claimed a moment ago.
        """
        self._only_queue = queue
        return await loops.retry_while_unavailable(
            lambda: self._state.claim_writer.run(self._claim_for, free), is_stopping
        )

    def _claim_for(self, free: Mapping[str, int]) -> list[ClaimedJob]:
        project = {executor: count for executor, count in free.items() if executor not in SENDER_EXECUTORS}
        jobs = self._claim_with_joined(project, min(sum(project.values()), MAX_CLAIM_BATCH))
        self._add_senders(jobs, free)
        self._prepare(jobs)
        return jobs

    def free(self) -> dict[str, int]:
        """Return how many jobs of each executor this worker has room for, on any thread."""
        return self._state.capacity.free()

    def _seconds_to_next_claim(self) -> float:
        if not self._has_left_out_senders:
            return POLL_INTERVAL_SECONDS
        return min(max(self.next_sender_claim - time.monotonic(), 0.001), POLL_INTERVAL_SECONDS)

    def wake(self) -> None:
        """Read the queue now."""
        self._wake.set()

    def slot_freed(self, job: Job) -> None:
        """Read the queue now if an executor that was full has room again at the end of this job."""
        is_last = self._state.run_limit.ends_by_itself and not self._state.executions
        if is_last or self._exhausted_executors & executors_freed_by(job):
            self._wake.set()

    def _claim(self) -> tuple[list[ClaimedJob], set[str]]:
        """Claim jobs for what is free, on the writer's thread; return them, and the executors that they leave full."""
        free = self._state.capacity.free()
        jobs, exhausted = self._claim_project_jobs(free) if ASYNC in free else ([], set(PROJECT_EXECUTORS))
        if jobs and not self._state.executions and not self._has_left_out_senders:
            # An idle worker starts what it has, and claims senders at once after it: their statements took a third of
            # the time from enqueueing to the start of a job on PostgreSQL.
            self._has_left_out_senders = True
        else:
            self._add_senders(jobs, free)
        self._prepare(jobs)
        return jobs, exhausted | exhausted_executors(free, [claimed.row for claimed in jobs])

    def _add_senders(self, jobs: list[ClaimedJob], free: Mapping[str, int]) -> None:
        """Add the jobs of the app's own senders that are claimed. An error keeps the jobs that are claimed already."""
        try:
            jobs += self._claim_senders(free, len(jobs))
        except UNAVAILABLE as exc:
            if not jobs:
                raise
            log_retried(logger, "Could not claim jobs of senders, which is tried again", exc)

    def _prepare(self, jobs: list[ClaimedJob]) -> None:
        """Prepare claimed jobs for their execution."""
        read_timeouts([claimed.row for claimed in jobs], self._state.timeouts)
        prepare_claimed_jobs(jobs)

    def _claim_senders(self, free: Mapping[str, int], started: int) -> list[ClaimedJob]:
        """Claim jobs of the app's own senders, after so many other jobs."""
        capacities = {executor: free[executor] for executor in SENDER_EXECUTORS if executor in free}
        total = sum(capacities.values())
        limit = 0 if self._state.is_quiet else self._state.run_limit.reduce(started + total) - started
        if limit <= 0:
            self._has_left_out_senders = False
            return []
        now = time.monotonic()
        self._has_left_out_senders = now < self.next_sender_claim and not self._state.run_limit.ends_by_itself
        if self._has_left_out_senders:
            return []
        self.next_sender_claim = now + SENDER_CLAIM_INTERVAL_SECONDS
        limit = min(limit, MAX_CLAIM_BATCH)
        jobs = self._claim_jobs(limit, capacities)
        self._has_left_out_senders = len(jobs) == limit
        return jobs

    def _claim_project_jobs(self, free: Mapping[str, int]) -> tuple[list[ClaimedJob], set[str]]:
        """Claim jobs that take slots; return them, and all executors if they are full."""
        free = {executor: count for executor, count in free.items() if executor not in SENDER_EXECUTORS}
        limit = min(free[ASYNC], MAX_CLAIM_BATCH)
        jobs = self._claim_with_joined(free, limit)
        return jobs, set(PROJECT_EXECUTORS) if len(jobs) >= limit else set()

    def _claim_with_joined(self, free: Mapping[str, int], limit: int) -> list[ClaimedJob]:
        # First the jobs for which running jobs wait. By age, a thousand parents would begin before the first child.
        joining = [execution.job.id for execution in self._state.executions.joining()]
        joined = self._state.executions.joined_jobs()
        jobs: list[ClaimedJob] = []
        if joined:
            among = Q(id__in=joined) | Q(batch__in=batch_completion.find_nested_batches(joined))
            jobs = self._claim_jobs(limit, free, among=among, joining=joining)
        if remaining := self._state.run_limit.reduce(self._limit_of_other_jobs(limit - len(jobs))):
            left = self._subtract(free, [claimed.row for claimed in jobs])
            jobs += self._claim_jobs(remaining, left)
        return jobs

    def _subtract(self, free: Mapping[str, int], jobs: Sequence[Job]) -> dict[str, int]:
        if self._only_queue is None:
            return subtract(free, jobs)
        # What the caller has free for sync jobs is none of what it has for async ones.
        left = Counter(free)
        left.subtract(job.executor for job in jobs)
        return dict(+left)

    def _claim_jobs(self, limit: int, executors: Mapping[str, int], **options: Any) -> list[ClaimedJob]:
        wait_for_tables()
        started = spans.start_time()
        jobs = claims.claim_jobs(
            self._state.worker,
            limit,
            source=self._source(),
            timeouts=self._state.timeouts,
            executors=executors,
            **options,
        )
        spans.record_claim(started, jobs)
        if jobs:
            call_after_write(claims.make_claims_durable)  # while they begin
        return jobs

    def _source(self) -> Source:
        if self._only_queue is None:
            return builtin_source(self._state.queues)
        backend, queue = self._only_queue
        return Source(backends=(backend,), queues=(queue,))

    @staticmethod
    def has_limit(job: Job) -> bool:
        """Return whether a job has a concurrency key, or its queue a limit: others may begin when it has ended."""
        return has_limited_jobs([job])

    def _limit_of_other_jobs(self, limit: int) -> int:
        """Return how many jobs may be claimed for which no running job waits."""
        if self._state.is_quiet:
            return 0
        if not self._state.capacity.has_many_waiting():
            return limit
        # One from time to time: the jobs for which running ones wait may need others that this worker cannot know.
        now = time.monotonic()
        if now - self._last_over_limit_claim < OVER_LIMIT_CLAIM_INTERVAL_SECONDS:
            return 0
        self._last_over_limit_claim = now
        return min(limit, 1)


def read_timeouts(jobs: Sequence[Job], timeouts: dict[str, float | None]) -> None:
    """Add to ``timeouts`` the seconds of tasks that are not in it, and set the deadlines of their jobs."""
    if new_paths := {job.task_path for job in jobs} - timeouts.keys():
        new_timeouts = {path: results.policy_at(path).timeout for path in new_paths}
        timeouts |= new_timeouts
        running.extend_deadlines([job for job in jobs if job.task_path in new_paths], new_timeouts)

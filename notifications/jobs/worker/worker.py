"""The worker: one asyncio loop that claims jobs, runs them beside one another, and records what comes out in groups."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from django.db import Error, InterfaceError, OperationalError
from django.db.models import Q

from notifications.conf import settings
from notifications.db.threads import DaemonExecutor, NoThread
from notifications.db.transactions import connection
from notifications.jobs import results
from notifications.jobs.claiming.claimed_job import Claim, ClaimedJob, claim_of
from notifications.jobs.claiming.lanes import ASYNC, LANES, SUSPECT
from notifications.jobs.transitions import batch_completion, claims, manual, outcomes, queueing, running
from notifications.jobs.transitions.finishing import finish_jobs
from notifications.jobs.transitions.outcomes import Outcome
from notifications.jobs.transitions.signal_queue import SignalQueue
from notifications.jobs.transitions.transaction_receivers import TransactionLost
from notifications.jobs.worker import capacity, execution
from notifications.jobs.worker.capacity import Capacity
from notifications.jobs.worker.execution import Execution
from notifications.jobs.worker.lease import Lease
from notifications.jobs.worker.maintenance import Maintenance
from notifications.jobs.worker.subtasks import make_task, name_for
from notifications.jobs.worker.watchdog import Watchdog
from notifications.jobs.worker.writer import Writer

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Jobs claimed, and outcomes recorded, by one transaction at most. Two rows each are numbered: a full pass on SQLite.
MAX_CLAIM_BATCH, MAX_RECORD_BATCH = 100, 50
#: Seconds: between two looks at the queue, two writes of progress, two tries when the database is away.
POLL_INTERVAL_SECONDS, PROGRESS_INTERVAL_SECONDS, RETRY_INTERVAL_SECONDS = 1.0, 0.5, 0.5
#: The database is away or busy, or this process has no thread or memory for it now (SQLite's own error for memory is
#: Python's). As against: the database refuses what it is given.
DATABASE_UNAVAILABLE = (OperationalError, InterfaceError, NoThread, MemoryError)
#: Seconds between two jobs that are claimed all the same.
OVER_LIMIT_CLAIM_INTERVAL_SECONDS = 1.0
#: Seconds between two checks that the claims of running jobs still hold.
CLAIM_CHECK_INTERVAL_SECONDS = 5.0
#: Seconds between two looks at who wants a job cancelled, at least.
CANCEL_CHECK_INTERVAL_SECONDS = 0.25
#: Seconds at least that receivers have at a stop for what they have not heard yet.
SIGNALS_GRACE_SECONDS = 2.0
#: Threads for database work of async tasks (each shared by many jobs), and for sync tasks at most.
MAX_DATABASE_THREADS, MAX_SYNC_THREADS = 8, 32


class Worker:
    """Runs jobs in the loop that awaits ``run()``, until ``stop()``.

    ``listen``
        Takes a callback ``(users, queue)`` and returns a function that ends it: the doorbell's. Without one
        the queue is looked at once a second.
    ``queues``
        Names of queues; all, if there are none.
    ``concurrency``
        Jobs at a time; ``NOTIFICATIONS["CONCURRENCY"]`` unless told.
    """

    def __init__(
        self,
        *,
        listen: Callable[[Callable[[Any, bool], None]], Callable[[], None]] | None = None,
        queues: Sequence[str] = (),
        concurrency: int | None = None,
    ) -> None:
        self.queues = tuple(queues)
        self.concurrency = concurrency or settings.CONCURRENCY
        self.lease = Lease(queues=self.queues, concurrency=self.concurrency, load=lambda: len(self._running))
        self._listen = listen
        self._signals = SignalQueue()
        self._write = Writer(self._signals)
        # Beside a commit of outcomes PostgreSQL gives jobs; SQLite's lock is held once at a time anyway, and a pool of
        # Django's, of four unless told, has others to serve than one more thread that keeps its connection.
        db = connection()
        shared = db.vendor == "sqlite" or db.settings_dict["OPTIONS"].get("pool")
        self._claims = self._write if shared else Writer(self._signals)
        self._database = [
            DaemonExecutor(1, f"notifications-database-{n}", keep_connections=True)
            for n in range(MAX_DATABASE_THREADS)
        ]
        threads = min(MAX_SYNC_THREADS, self.concurrency)
        self._threads = DaemonExecutor(threads, "notifications-sync")
        self._running: dict[Claim, Execution] = {}
        self._capacity = Capacity(self._running, slots=self.concurrency, threads=threads)
        self._outcomes: list[Outcome] = []
        self._reports: dict[Claim, Execution] = {}
        self._adrift: set[Claim] = set()
        self._given_up: set[Claim] = set()
        self._timeouts: dict[str, float] = {}
        self._turn = 0
        self._beyond = time.monotonic()
        self._exhausted: set[str] = set()
        self._grace = 0.0
        self._drained_by = 0.0
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Run jobs until ``stop()``, then let running ones finish within its grace and release the rest."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(make_task)
        self._wake, self._recorded, self._reported, self._freed, self._asked = (
            asyncio.Event() for _ in range(5)
        )
        house = Maintenance(self.lease, self._write, self._wake.set)
        try:
            await self._insist(self.lease.start)
            await self._insist(house.reap_neighbours)
        except (Error, *DATABASE_UNAVAILABLE):  # stopped while the database was away
            return await self._end()
        logger.info("Worker %s runs %d jobs at a time.", self.lease.worker, self.concurrency)
        watchdog = Watchdog(self._loop)
        unsubscribe = self._listen(self._rung) if self._listen else None
        helpers = [
            asyncio.create_task(_run_forever(step))
            for step in (
                self._record,
                self._report,
                self._cancel,
                self._compare,
                house.rounds,
                house.mark_read,
                house.prune,
            )
        ]
        try:
            await self._claim()
            await self._drain()
        finally:
            if unsubscribe:
                unsubscribe()
            watchdog.stop()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._end()

    def stop(self, grace: float | None = None) -> None:
        """Claim no more, and end within ``grace`` seconds (``NOTIFICATIONS["GRACE"]`` unless told). From any thread."""
        self._grace = settings.GRACE if grace is None else grace
        self._stopping = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_up)

    # Claim

    async def _claim(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                jobs, exhausted = await self._insist(self._take, on=self._claims)
            except Exception as exc:  # running jobs must not lose their worker, nor at a stop their grace
                logger.warning(
                    "No job could be claimed: %r", exc, exc_info=not isinstance(exc, DATABASE_UNAVAILABLE)
                )
                await asyncio.sleep(0 if self._stopping else RETRY_INTERVAL_SECONDS)
                continue
            for claimed in jobs:
                self._start(claimed)
            many_wait = self._capacity.has_many_waiting()
            self._exhausted = set(LANES) if many_wait else exhausted
            # What was not free then may be now: who freed it before these lines has not woken this.
            if not (exhausted & self._capacity.free().keys() or (jobs and many_wait)):
                await _wait(self._wake, POLL_INTERVAL_SECONDS)

    def _joins(self) -> None:
        # From any thread.
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _take(self) -> tuple[list[ClaimedJob], set[str]]:
        """Claim jobs for what is free by now; return them, and the lanes of which there may be more."""
        free = self._capacity.free()
        if not free:
            return [], set(LANES)
        limit = min(free[ASYNC], MAX_CLAIM_BATCH)
        # First the jobs for which others wait here, or a thousand parents would begin before the first child.
        wanted = {id for run in list(self._running.values()) for id in list(run.joined.values())}
        jobs: list[ClaimedJob] = []
        if wanted:
            jobs = self._take_among(
                Q(id__in=wanted) | Q(batch__in=batch_completion.find_nested_batches(wanted)), limit, free
            )
        if rest := self._others(limit - len(jobs)):
            jobs += self._take_among(None, rest, capacity.subtract(free, [claimed.row for claimed in jobs]))
        if new := {claimed.row.task_path for claimed in jobs} - self._timeouts.keys():
            told = {path: results.policy_at(path).timeout for path in new}
            self._timeouts |= told
            running.extend_deadlines([claimed.row for claimed in jobs if claimed.row.task_path in new], told)
        execution.send_task_started(jobs)
        return jobs, set(LANES) if len(jobs) >= limit else capacity.exhausted(
            free, [claimed.row for claimed in jobs]
        )

    def _others(self, limit: int) -> int:
        """Return how many jobs may be claimed for which nobody waits here."""
        if not self._capacity.has_many_waiting():
            return limit
        # One now and then: what is waited for may itself depend on jobs of which nothing is known here.
        now = time.monotonic()
        if now - self._beyond < OVER_LIMIT_CLAIM_INTERVAL_SECONDS:
            return 0
        self._beyond = now
        return min(limit, 1)

    def _take_among(self, among: Q | None, limit: int, lanes: dict[str, int]) -> list[ClaimedJob]:
        return claims.claim_jobs(
            self.lease.worker,
            limit,
            queues=self.queues,
            timeouts=self._timeouts,
            among=among,
            lanes=lanes,
        )

    def _start(self, claimed: ClaimedJob) -> None:
        job = claimed.row
        if job.lane == SUSPECT:
            logger.warning(
                "Running a suspect job apart from others: job %s (%s), attempt %d of %d, was running when its worker "
                "was lost.",
                job.id,
                job.task_path,
                job.attempt,
                job.max_attempts,
            )
        run = Execution(claimed, self._progressed, self._joins)
        self._running[claim_of(job)] = run
        # A fresh context: nothing of the worker's, or of another job, leaks into this one.
        run.task = asyncio.get_running_loop().create_task(
            self._execute(run), context=contextvars.Context(), name=name_for(job)
        )

    async def _execute(self, run: Execution) -> None:
        self._turn += 1
        try:
            outcome = await run.run(self._database[self._turn % MAX_DATABASE_THREADS], self._threads)
        except asyncio.CancelledError:
            if run.stopping:
                return  # released by _end(); or taken over by another worker
            logger.exception("The outcome of job %s cannot be told.", run.job.id)
            outcome = outcomes.fallback(run.job)
        except ImportError as exc:
            if not (ended := await self._unknown(run.claimed, exc)):
                return
            outcome = ended
        except NoThread as exc:
            logger.error("Job %s goes back to the queue: %s", run.job.id, exc)
            await self._insist(queueing.requeue_without_thread, run.job)
            self._free(claim_of(run.job))
            return
        except BaseException:  # ours: a job must have an outcome, whatever it takes
            logger.exception("The outcome of job %s cannot be told.", run.job.id)
            outcome = outcomes.fallback(run.job)
        self._outcomes.append(outcome)
        self._recorded.set()

    async def _unknown(self, claimed: ClaimedJob, exc: ImportError) -> Outcome | None:
        job = claimed.row
        self._timeouts.pop(job.task_path, None)  # it is asked for again when the task can be imported
        if not await self._insist(queueing.requeue_unknown_task, claimed):
            return outcomes.unknown(job)
        logger.warning(
            "Task %s is not known here; job %s goes back to the queue: %s", job.task_path, job.id, exc
        )
        self._free(claim_of(job))
        return None

    # Record

    async def _record(self) -> None:
        in_vain = 0
        while True:
            if not self._outcomes:
                await self._recorded.wait()
            self._recorded.clear()
            # They stay in the list until they are settled, so that nothing that fails here loses one.
            group = self._outcomes[:MAX_RECORD_BATCH]
            settled = await self._settle(group)
            for claim in settled:
                self._free(claim)
            # Those whose row is locked go to the end: they hold up nobody.
            waiting = [outcome for outcome in group if claim_of(outcome.job) not in settled]
            self._outcomes[:] = self._outcomes[len(group) :] + waiting
            in_vain = 0 if settled else in_vain + len(group)
            if self._outcomes and in_vain >= len(self._outcomes):
                in_vain = 0
                await _wait(self._recorded, RETRY_INTERVAL_SECONDS)

    async def _settle(self, group: list[Outcome]) -> set[Claim]:
        try:
            return await self._write(finish_jobs, group)
        except DATABASE_UNAVAILABLE as exc:
            logger.warning("%d outcomes wait: the database does not take them now: %s", len(group), exc)
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)
            return set()
        except Exception:  # one that the database refuses must not cost its neighbours theirs
            return await self._one_by_one(group)

    async def _one_by_one(self, group: list[Outcome]) -> set[Claim]:
        """Record each outcome alone, so that one that the database refuses hurts only its own job."""
        settled: set[Claim] = set()
        for outcome in group:
            policy = results.policy_at(outcome.job.task_path)
            for attempt in (outcome, None):
                try:
                    settled |= await self._record_one(attempt or outcomes.refused(outcome.job, policy))
                    break
                except DATABASE_UNAVAILABLE:
                    break  # it waits
                except Exception:
                    logger.exception("The outcome of job %s cannot be stored.", outcome.job.id)
            else:
                claim = claim_of(outcome.job)
                self._given_up.add(claim)  # it is taken away when its deadline is over
                settled.add(claim)
        return settled

    async def _record_one(self, outcome: Outcome) -> set[Claim]:
        try:
            return await self._write(finish_jobs, [outcome])
        except TransactionLost:  # a receiver hangs; it is not called for this job again
            return await self._write(finish_jobs, [outcome])

    def _free(self, claim: Claim) -> None:
        run = self._running.pop(claim, None)
        self._freed.set()
        if run and self._exhausted & capacity.lanes_freed_by(run.job):
            self._wake.set()

    # Report

    def _progressed(self, run: Execution) -> None:
        # From any thread.
        self._reports[claim_of(run.job)] = run
        if self._loop and not self._loop.is_closed() and not self._reported.is_set():
            self._loop.call_soon_threadsafe(self._reported.set)

    async def _report(self) -> None:
        while True:
            await self._reported.wait()
            self._reported.clear()
            # One by one out of the same dict: threads put more in meanwhile.
            runs = [self._reports.pop(claim) for claim in list(self._reports)]
            jobs = [run.job for run in runs if claim_of(run.job) in self._running]
            try:
                await self._write(running.store_progress, jobs)
            except DATABASE_UNAVAILABLE as exc:
                logger.warning(
                    "Could not store the progress of %d jobs, which is tried again: %s", len(jobs), exc
                )
                for run in runs:
                    self._reports.setdefault(claim_of(run.job), run)
                self._reported.set()
            await asyncio.sleep(PROGRESS_INTERVAL_SECONDS)

    # Cancel

    async def _cancel(self) -> None:
        """End what somebody wants cancelled: a ring hurries the look, which comes each second anyway."""
        while True:
            await _wait(self._asked, POLL_INTERVAL_SECONDS)
            self._asked.clear()
            if not self._running:
                continue
            try:
                asked = await self._write(manual.cancellations_requested, self.lease.worker)
            except DATABASE_UNAVAILABLE as exc:
                logger.warning("Who wants a job cancelled is not known now: %s", exc)
                asked = []
            for id, fence, by_other in asked:
                if run := self._running.get((id, fence)):
                    run.job.cancelled_by_other = by_other
                    run.cancel()
            await asyncio.sleep(CANCEL_CHECK_INTERVAL_SECONDS)

    # Compare

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_CHECK_INTERVAL_SECONDS)
            self._threads.start_missing_thread()
            try:
                await self._compare_claims()
                if waiting := [run.job for run in self._running.values() if run.waits]:
                    await self._write(running.extend_deadlines, waiting, self._timeouts)
            except DATABASE_UNAVAILABLE as exc:
                logger.warning("Claims cannot be compared now: %s", exc)

    async def _compare_claims(self) -> None:
        """Cancel tasks whose claim is void: another worker has their job. Give back jobs claimed but not run here.

        The answer to a claim may be lost. It is given back at the second look, because one may be on its way here.
        """
        before = dict(self._running)
        # Asked where jobs are claimed, or a claim that takes long would be under way at both looks.
        held = {claim_of(job): job for job in await self._claims(running.read_claims, self.lease.worker)}
        for claim, run in before.items():
            if claim not in held and self._running.get(claim) is run and run.task and not run.task.done():
                logger.warning("Cancelling an execution: another worker has claimed job %s", run.job.id)
                run.stopping = True
                run.task.cancel()
                self._free(claim)
        self._given_up &= held.keys()
        adrift = held.keys() - self._running.keys() - self._given_up
        if again := adrift & self._adrift:
            logger.warning("%d jobs were claimed, but do not run; they go back to the queue.", len(again))
            await self._write(queueing.release, [held[claim] for claim in again])
        self._adrift = adrift

    # End

    async def _drain(self) -> None:
        self._drained_by = until = time.monotonic() + self._grace
        while self._running and (left := until - time.monotonic()) > 0:
            self._freed.clear()
            await _wait(self._freed, left)
        for run in self._running.values():
            run.stopping = True
            if run.task:
                run.task.cancel()
        if tasks := [run.task for run in self._running.values() if run.task]:
            await asyncio.wait(tasks, timeout=2)
        while self._outcomes and time.monotonic() < until + 2:
            self._freed.clear()
            await _wait(self._freed, 0.1)

    async def _end(self) -> None:
        self.lease.stop()
        # When something else ended the loop, one of them may be the cause: then they are lost and their attempt counts.
        unsettled = [run.job for run in self._running.values()] if self._stopping else []
        try:
            await self._write(queueing.release, unsettled)
            await self._write(self.lease.end)
        except (Error, *DATABASE_UNAVAILABLE) as exc:
            logger.warning("%d jobs are not released, their lease will end: %s", len(unsettled), exc)
        await self._signals.drain(max(self._drained_by - time.monotonic(), SIGNALS_GRACE_SECONDS))
        for thread in [*self._database, self._threads]:
            thread.shutdown()
        self._signals.end()
        self._write.end()
        self._claims.end()
        logger.info("Worker %s has ended; %d jobs were given back.", self.lease.worker, len(unsettled))

    # Wake

    def _rung(self, users: Any, queue: bool) -> None:
        # From any thread. Only the queue matters here.
        if queue and self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_up)

    def _wake_up(self) -> None:
        self._wake.set()
        self._asked.set()
        self._freed.set()

    async def _insist(self, work: Callable[..., T], *args: Any, on: Writer | None = None) -> T:
        """Call ``work`` on a writer's thread, again and again while the database is away or not migrated yet.

        While this worker stops the error is raised.
        """
        said = ""
        while True:
            try:
                return await (on or self._write)(work, *args)
            except (Error, *DATABASE_UNAVAILABLE) as exc:
                if self._stopping:
                    raise
                if str(exc) != said:
                    logger.warning("The worker waits for the database: %s", exc)
                said = str(exc)
                await asyncio.sleep(RETRY_INTERVAL_SECONDS)


async def _run_forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except Exception:  # the worker's boundary: it goes on, and says so
            logger.exception("A step of the worker failed; it is begun again.")
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass

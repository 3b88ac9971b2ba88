"""Maintenance: what each worker does for all jobs and streams besides running its own jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from notifications import streams, times
from notifications.conf import settings
from notifications.db.transactions import database, retrying_atomic
from notifications.db.unavailable import UNAVAILABLE, log_if_not_migrated
from notifications.jobs import stored_times
from notifications.jobs.alerts import evaluation
from notifications.jobs.announcing import announcer
from notifications.jobs.claiming.stranded import claiming_workers
from notifications.jobs.project_threads import ProjectThreads
from notifications.jobs.schedules import tasks as scheduled_tasks
from notifications.jobs.schedules import ticks
from notifications.jobs.schedules.declarations import declared_schedules
from notifications.jobs.statistics import folding
from notifications.jobs.transitions import finishing, handing_over, manual, notify_functions, reaping
from notifications.jobs.transitions.guards import database_now
from notifications.jobs.worker.lease import Lease, find_dead_neighbors
from notifications.models import Worker
from notifications.streams.marking import continue_marking
from notifications.streams.retention import Pruning

logger = logging.getLogger("notifications.jobs")

#: Seconds between two rounds.
ROUND_INTERVAL_SECONDS = 1.0
#: Seconds between two prunings, from the start of a worker to its first one, and between two chunks of one pruning.
PRUNE_INTERVAL_SECONDS, FIRST_PRUNE_DELAY_SECONDS, PRUNE_CHUNK_PAUSE_SECONDS = 3600.0, 60.0, 0.05
#: Seconds between two foldings of statistics, and between two chunks of one.
FOLD_INTERVAL_SECONDS, FOLD_CHUNK_PAUSE_SECONDS = 15.0, 0.02
#: Seconds between two moves of jobs whose backend has gained or lost its engine.
MOVE_INTERVAL_SECONDS = 60.0
#: Seconds at least between two rounds of schedules.
MIN_TICK_PAUSE_SECONDS = 0.02
#: Seconds at least between two chunks of an inbox that is marked as read.
MIN_MARK_PAUSE_SECONDS = 0.02


class Maintenance:
    """The maintenance loops of one worker.

    ``write``
        Runs a call on the writer's thread.
    ``on_requeued``
        Called when jobs of lost workers were queued again.
    """

    def __init__(
        self, lease: Lease, write: Callable[..., Awaitable[Any]], on_requeued: Callable[[], None]
    ) -> None:
        self._lease = lease
        self._write = write
        self._on_requeued = on_requeued
        self._project_threads = ProjectThreads()
        self._announcer = announcer.Announcer()

    async def run_rounds(self) -> None:
        """Once a second, complete what other processes have left. All workers do so, without harm to one another."""
        while True:
            try:
                await self._write(streams.number_pending)
                await self._write(stored_times.correct_wrong_times)
                if await self._write(self._reap_jobs):
                    self._on_requeued()
                await self._write(manual.resume_batch_cancellations)
                await self._write(finishing.finish_remaining_batches)
            except UNAVAILABLE as exc:
                _log_unavailable("Could not run maintenance, which is tried again: %s", exc)
            await asyncio.sleep(ROUND_INTERVAL_SECONDS)

    async def run_schedules(self) -> None:
        """Enqueue the jobs of schedules when they are due. All workers do so: a tick is recorded once."""
        has_imported_tasks = not declared_schedules()
        last_error = ""
        while True:
            started = time.monotonic()
            try:
                if not has_imported_tasks:
                    # Importing the modules of tasks may take seconds, for which no outcome could be recorded.
                    await self._call_project(lambda: list(scheduled_tasks.find_wrong_tasks()))
                    has_imported_tasks = True
                # Enqueueing calls code of the project: policies, receivers of task_enqueued, managers of users.
                pause = await self._call_project(ticks.run_round)
                last_error = ""
            except UNAVAILABLE as exc:
                pause = ticks.HELD_RETRY_SECONDS
                if str(exc) != last_error:
                    _log_unavailable("Could not enqueue jobs of schedules, which is tried again: %s", exc)
                last_error = str(exc)
            elapsed = time.monotonic() - started
            await asyncio.sleep(max(pause - elapsed, MIN_TICK_PAUSE_SECONDS))

    async def mark_read(self) -> None:
        """Mark inboxes as read in chunks, so that outcomes are recorded on the same thread in between."""
        while True:
            started = time.monotonic()
            has_more = False
            try:
                has_more = await self._write(continue_marking, 0, retrying_atomic)
            except UNAVAILABLE as exc:
                _log_unavailable("Could not mark notifications as read: %s", exc)
            pause = max(time.monotonic() - started, MIN_MARK_PAUSE_SECONDS)
            await asyncio.sleep(pause if has_more else ROUND_INTERVAL_SECONDS)

    async def evaluate_alerts(self) -> None:
        """Evaluate alerts when no process has done so for their interval."""
        while True:
            await asyncio.sleep(evaluation.CHECK_INTERVAL_SECONDS)
            try:
                await self._write(evaluation.evaluate_if_due)
            except UNAVAILABLE as exc:
                _log_unavailable("Could not evaluate alerts, which is tried again: %s", exc)

    async def announce(self) -> None:
        """Notify readers of what has changed. All workers do so: each reader is notified once."""
        while True:
            await asyncio.sleep(announcer.ROUND_INTERVAL_SECONDS)
            try:
                await self._call_project(self._announcer.run_round)
            except UNAVAILABLE as exc:
                _log_unavailable("Could not announce alerts and schedules, which is tried again: %s", exc)

    async def end(self, seconds: float) -> None:
        """End the threads on which code of the project is called. Wait for calls that run, at most this long."""
        # Not on a thread of the event loop: the embedded worker ends while the interpreter does, which starts none.
        if calls := [*self._project_threads.close(), *notify_functions.open_records()]:
            done, _ = await asyncio.wait([asyncio.wrap_future(call) for call in calls], timeout=seconds)
            for call in done:
                call.exception()

    async def prune(self) -> None:
        """Delete rows past their retention once an hour, on the oldest live worker."""
        await asyncio.sleep(FIRST_PRUNE_DELAY_SECONDS)
        while True:
            started = time.monotonic()
            deleted = 0
            pruning = Pruning(times.now() - settings.RETENTION, run=retrying_atomic)
            try:
                while (count := await self._write(self._prune_chunk, pruning)) is not None:
                    deleted += count
                    await asyncio.sleep(PRUNE_CHUNK_PAUSE_SECONDS)
            except UNAVAILABLE as exc:
                _log_unavailable("Could not prune old rows, which is tried again: %s", exc)
            if deleted:
                logger.info("Pruned rows past their retention: %d", deleted)
            elapsed = time.monotonic() - started
            await asyncio.sleep(max(PRUNE_INTERVAL_SECONDS - elapsed, ROUND_INTERVAL_SECONDS))

    async def fold_statistics(self) -> None:
        """Fold the statistics of jobs, and delete old ones, on the oldest live worker."""
        while True:
            await asyncio.sleep(FOLD_INTERVAL_SECONDS)
            try:
                has_more = True
                while has_more:
                    has_more = bool(await self._write(self._fold_chunk))
                    await asyncio.sleep(FOLD_CHUNK_PAUSE_SECONDS)
            except UNAVAILABLE as exc:
                _log_unavailable("Could not fold statistics, which is tried again: %s", exc)

    def reap_dead_neighbors(self) -> int:
        """Take over the jobs of workers on this host whose process has ended, without waiting for their leases."""
        return reaping.reap_jobs(find_dead_neighbors(), expired=False)

    def _reap_jobs(self) -> int:
        return reaping.reap_jobs(find_dead_neighbors(), expired=self._lease.may_reap())

    async def move_jobs(self) -> None:
        """Move queued jobs whose backend has gained or lost its engine: at the start, then once a minute.

        Processes with the earlier settings may enqueue jobs until they are restarted too.
        """
        is_start = True
        while True:
            try:
                if moved := await self._write(self._move_jobs, is_start):
                    logger.info("Moved queued jobs between the built-in worker and engines: %d", moved)
                is_start = False
            except UNAVAILABLE as exc:
                _log_unavailable("Could not move jobs to their engines, which is tried again: %s", exc)
            await asyncio.sleep(ROUND_INTERVAL_SECONDS if is_start else MOVE_INTERVAL_SECONDS)

    def _move_jobs(self, is_start: bool) -> int:
        # Looking for such jobs reads all queued ones, so only one worker goes on doing so.
        if not is_start:
            live = claiming_workers().filter(lease_until__gte=database_now()).order_by("id")
            if live.values_list("id", flat=True).first() != self._lease.worker:
                return 0
        return handing_over.move_to_configured_lanes()

    async def _call_project(self, function: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self._project_threads.submit(function))

    def _prune_chunk(self, pruning: Pruning) -> int | None:
        # Checked before each chunk. Two workers that prune at once would delete nothing twice, but wait for each other.
        return pruning.prune_chunk() if is_oldest_worker(self._lease) else None

    def _fold_chunk(self) -> int:
        return (folding.fold_chunk() or folding.delete_chunk()) if is_oldest_worker(self._lease) else 0


def is_oldest_worker(lease: Lease) -> bool:
    """Return whether a worker is the oldest live one, which does what only one worker should do."""
    live = Worker.objects.using(database()).filter(lease_until__gte=database_now()).order_by("id")
    return live.values_list("id", flat=True).first() == lease.worker


def _log_unavailable(text: str, exc: BaseException) -> None:
    # On SQLite a table that does not exist is an OperationalError.
    if not log_if_not_migrated(exc):
        logger.warning(text, exc)

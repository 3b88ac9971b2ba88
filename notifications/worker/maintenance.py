"""Maintenance: what each worker does for all jobs and streams besides running its own jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from notifications.db.threads import NoThread
from notifications.extension import Duty, Where
from notifications.jobs.owed_calls import prepare_hooks
from notifications.jobs.transitions import notify_functions, reaping
from notifications.upkeep import Upkeep
from notifications.worker.lease import Lease, find_dead_neighbors

#: Seconds between two rounds.
ROUND_INTERVAL_SECONDS = 1.0
#: Seconds at least between two rounds of an own loop.
MIN_LOOP_PAUSE_SECONDS = 0.02
#: Seconds at least between two chunks of duties that have more to do.
MIN_CHUNK_PAUSE_SECONDS = 0.02


class Maintenance:
    """The maintenance loops of one worker.

    ``write``
        Runs a call on the writer's thread.
    ``on_requeued``
        Called on that thread when jobs of lost workers were queued again.
    """

    def __init__(
        self, lease: Lease, write: Callable[..., Awaitable[Any]], on_requeued: Callable[[], None]
    ) -> None:
        self._write = write
        self._upkeep = Upkeep(Where.WORKER, seconds=0, may_reap=lease.may_reap, on_requeued=on_requeued)

    async def prepare_hooks(self) -> None:
        """Let extensions import tasks of the project, which may take seconds, before the first outcome is recorded."""
        with suppress(NoThread):  # the first outcome imports them
            await asyncio.wrap_future(self._upkeep.project_threads.submit(prepare_hooks))

    async def run_duties(self) -> None:
        """Once a second, do what is due. What has more to do goes on with one chunk after another in between.

        An outcome waits for one chunk at most, or for a few duties that find nothing to do.
        """
        while True:
            next_round = time.monotonic() + ROUND_INTERVAL_SECONDS
            unfinished = self._upkeep.find_due()
            while unfinished:
                started = time.monotonic()
                waiting, unfinished = unfinished, []
                while waiting:
                    unfinished += await self._write(self._upkeep.run_first, waiting)
                # For as long as they took, to leave room for others.
                pause = max(time.monotonic() - started, MIN_CHUNK_PAUSE_SECONDS)
                if unfinished and time.monotonic() + pause < next_round:
                    await asyncio.sleep(pause)
                else:
                    break
            await asyncio.sleep(max(next_round - time.monotonic(), MIN_CHUNK_PAUSE_SECONDS))

    @property
    def own_loops(self) -> list[Callable[[], Awaitable[None]]]:
        return [partial(self.run_own_loop, duty) for duty in self._upkeep.own_loops]

    async def run_own_loop(self, duty: Duty) -> None:
        """Do a duty when it is due. All workers do so: it is no harm if several do it at the same time."""
        threads, run = self._upkeep.project_threads, cast("Callable[[], float]", duty.run)
        while True:
            started = time.monotonic()
            call = asyncio.wrap_future(threads.submit(run, may_be_stuck=True))
            if not (await asyncio.wait({call}, timeout=ROUND_INTERVAL_SECONDS))[0]:
                call.cancel()  # of the wait only
                continue  # until it returns, or is stuck, and submit() calls it again
            elapsed = time.monotonic() - started
            await asyncio.sleep(max(call.result() - elapsed, MIN_LOOP_PAUSE_SECONDS))

    async def end(self, seconds: float) -> None:
        """End the threads on which code of the project is called. Wait for calls that run, at most this long."""
        # Not on a thread of the event loop: the embedded worker ends while the interpreter does, which starts none.
        if calls := [*self._upkeep.project_threads.close(), *notify_functions.open_records()]:
            done, _ = await asyncio.wait([asyncio.wrap_future(call) for call in calls], timeout=seconds)
            for call in done:
                call.exception()

    def reap_dead_neighbors(self) -> int:
        """Take over the jobs of workers on this host whose process has ended, without waiting for their leases."""
        return reaping.reap_jobs(find_dead_neighbors(), expired=False)

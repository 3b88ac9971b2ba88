"""Notice that no job is claimed although some are ready, and begin to claim anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from notifications.db.deadlines import limit_this_thread
from notifications.db.hang_report import describe_sessions, describe_threads
from notifications.db.threads import DaemonExecutor, close_connections
from notifications.db.unavailable import UNAVAILABLE
from notifications.jobs.claiming import candidates
from notifications.worker.claim_loop import ClaimLoop

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Seconds without a claim, while jobs are ready and slots are free, after which claiming is begun anew.
STALLED_SECONDS = 10.0
CHECK_INTERVAL_SECONDS = 5.0


class ClaimWatchdog:
    """Watches the claims of one worker, with a new database connection for each check.

    Nothing is known to stop them for ever. When they do stop, the log has the stacks of all threads and the waits of
    the database, and jobs run on.
    """

    def __init__(self, claim_loop: ClaimLoop, queues: Sequence[str]) -> None:
        self._claim_loop = claim_loop
        self._queues = queues
        self._executor = DaemonExecutor(1, "notifications-claim-watchdog")
        #: Since when jobs have been ready at each check (monotonic); None if none were at the last one.
        self._ready_since: float | None = None
        self._has_logged_stacks = False

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            try:
                await self._check()
            except UNAVAILABLE as exc:
                self._ready_since = None
                logger.info("Could not check whether jobs are claimed: %s", exc)

    def end(self) -> None:
        """End the thread when its call is done."""
        self._executor.shutdown()

    async def _check(self) -> None:
        now = time.monotonic()
        executors = self._claim_loop.free_executors()
        if (
            not executors
            or now - self._claim_loop.last_claim_at < STALLED_SECONDS
            or not await self._are_jobs_ready(executors)
        ):
            self._ready_since = None
            return
        if self._ready_since is None:
            self._ready_since = now
        if now - max(self._ready_since, self._claim_loop.last_claim_at) < STALLED_SECONDS:
            return
        self._ready_since = None
        logger.error(
            "No job was claimed for %.0f s although jobs are ready and slots are free: claiming begins anew on a new "
            "connection",
            now - self._claim_loop.last_claim_at,
        )
        try:
            if not self._has_logged_stacks:
                self._has_logged_stacks = True
                logger.error("Threads of the worker that claims no job:\n%s", describe_threads())
                logger.error("Sessions of its database:\n%s", await self._call(describe_sessions))
        finally:
            self._claim_loop.restart()

    async def _are_jobs_ready(self, executors: Mapping[str, int]) -> bool:
        # Jobs with a concurrency key may wait for others of their key, as long as these run.
        queues = await self._call(candidates.claimable_queues, self._queues, tuple(executors))
        return not all(queues.values())

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        def call() -> T:
            limit_this_thread()
            try:
                return function(*args)
            finally:
                close_connections()

        return await asyncio.wrap_future(self._executor.submit(call))

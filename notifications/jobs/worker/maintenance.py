"""What workers do for all jobs beside running theirs: number leftovers, take over what is lost, delete what is old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import InterfaceError, OperationalError

from notifications import streams, times
from notifications.conf import settings
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.transitions import finishing, manual, reaping
from notifications.jobs.transitions.guards import database_now
from notifications.jobs.worker.lease import Lease, dead_neighbours
from notifications.models import Worker
from notifications.streams.marking import continue_marking
from notifications.streams.retention import Pruning

logger = logging.getLogger("notifications.jobs")

#: Seconds: between two rounds; between two prunings, from the start to the first one, and between two of its chunks;
#: between two chunks of an inbox that is marked as read.
ROUND_SECONDS, PRUNE_INTERVAL_SECONDS, FIRST_PRUNE_SECONDS, PRUNE_CHUNK_ROWS, MARK = (
    1.0,
    3600.0,
    60.0,
    0.05,
    0.02,
)


class Maintenance:
    """The rounds of one worker. ``write`` runs a call on its writer's thread, ``found`` hears of jobs to be claimed."""

    def __init__(self, lease: Lease, write: Callable[..., Awaitable[Any]], found: Callable[[], None]) -> None:
        self._lease = lease
        self._write = write
        self._found = found

    async def rounds(self) -> None:
        """Look after what others have left, once a second. Every worker does, and none harms another."""
        while True:
            try:
                await self._write(streams.number_pending)
                if await self._write(self._reap):
                    self._found()
                await self._write(manual.resume_batch_cancellations)
                await self._write(finishing.finish_remaining_batches)
            except (OperationalError, InterfaceError) as exc:
                logger.warning("Housekeeping waits: %s", exc)
            await asyncio.sleep(ROUND_SECONDS)

    async def mark_read(self) -> None:
        """Go on marking inboxes as read, a chunk at a time: outcomes are recorded by the same thread."""
        while True:
            began = time.monotonic()
            more = False
            try:
                more = await self._write(continue_marking, 0, retrying_atomic)
            except (OperationalError, InterfaceError) as exc:
                logger.warning("Could not mark notifications as read: %s", exc)
            await asyncio.sleep(max(time.monotonic() - began, MARK) if more else ROUND_SECONDS)

    async def prune(self) -> None:
        """Delete what is past its retention, once an hour, where this worker is the one that does."""
        await asyncio.sleep(FIRST_PRUNE_SECONDS)
        while True:
            began = time.monotonic()
            deleted = 0
            pruning = Pruning(times.now() - settings.RETENTION, run=retrying_atomic)
            try:
                while (count := await self._write(self._prune_some, pruning)) is not None:
                    deleted += count
                    await asyncio.sleep(PRUNE_CHUNK_ROWS)
            except (OperationalError, InterfaceError) as exc:
                logger.warning("Pruning waits: %s", exc)
            if deleted:
                logger.info("%d rows past their retention are deleted.", deleted)
            await asyncio.sleep(max(PRUNE_INTERVAL_SECONDS - (time.monotonic() - began), ROUND_SECONDS))

    def reap_neighbours(self) -> int:
        """Take over at once what workers of this host had whose process is gone."""
        return reaping.reap_jobs(dead_neighbours(), expired=False)

    def _reap(self) -> int:
        return reaping.reap_jobs(dead_neighbours(), expired=self._lease.may_reap())

    def _prune_some(self, pruning: Pruning) -> int | None:
        # Asked before each chunk: two of them at once would delete nothing twice, but would be in each other's way.
        return pruning.prune_chunk() if is_first(self._lease) else None


def is_first(lease: Lease) -> bool:
    """Whether a worker is the oldest of those that live: the one that does what only one should do."""
    alive = Worker.objects.using(database()).filter(lease_until__gte=database_now()).order_by("id")
    return alive.values_list("id", flat=True).first() == lease.worker

"""A worker's row and its lease: one claim on time for all jobs that it runs, renewed from a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.db import Error, connections
from django.utils import timezone

from notifications.conf import settings
from notifications.ids import uuid7
from notifications.jobs.states import clock
from notifications.models import Worker
from notifications.transactions import database, ours

logger = logging.getLogger("notifications.jobs")

#: A lease is renewed this many times before it would end.
RENEWALS = 4


class Lease:
    """Holds the row of one worker while it is started. ``load`` is asked for at each renewal."""

    def __init__(self, *, queues: Sequence[str], concurrency: int, load: Callable[[], int]) -> None:
        self.worker: UUID = uuid7()
        self._queues = ",".join(queues)
        self._concurrency = concurrency
        self._load = load
        self._stop = threading.Event()
        self._unbroken_since = 0.0
        self._thread = threading.Thread(target=self._renew, name="notifications-lease", daemon=True)

    def start(self) -> None:
        """Insert the row and renew it from now on. Raises ``django.db.Error`` when the database is away."""
        self._insert()
        self._unbroken_since = time.monotonic()
        self._thread.start()

    def end(self) -> None:
        """Delete the row: what this worker still runs is lost from now on."""
        self._stop.set()
        self._thread.join(timeout=1)
        ours(lambda: Worker.objects.using(database()).filter(id=self.worker).delete())

    @property
    def may_reap(self) -> bool:
        """Whether renewing went well for one whole lease: after an outage others need time to renew theirs."""
        return bool(self._unbroken_since) and time.monotonic() - self._unbroken_since >= settings.LEASE

    def _insert(self) -> None:
        now = clock()
        row = Worker(
            id=self.worker,
            host=socket.gethostname()[:255],
            process=process_identity(),
            started_at=timezone.now(),
            lease_until=now + timedelta(seconds=settings.LEASE),
            queues=self._queues[:1000],
            concurrency=self._concurrency,
        )
        ours(lambda: row.save(using=database(), force_insert=True))

    def _renew(self) -> None:
        while not self._stop.wait(settings.LEASE / RENEWALS):
            try:
                if not ours(self._extend):
                    logger.warning("Worker %s was taken for dead; it goes on with a new lease.", self.worker)
                    self._insert()
                self._unbroken_since = self._unbroken_since or time.monotonic()
            except Error as exc:
                self._unbroken_since = 0.0
                logger.warning("The lease of worker %s could not be renewed: %s", self.worker, exc)
                connections.close_all()
        connections.close_all()

    def _extend(self) -> int:
        return (
            Worker.objects.using(database())
            .filter(id=self.worker)
            .update(lease_until=clock() + timedelta(seconds=settings.LEASE), load=self._load())
        )


def dead_neighbours() -> list[UUID]:
    """Return the workers of this host whose process is provably gone, so that their jobs go on at once."""
    neighbours = Worker.objects.using(database()).filter(host=socket.gethostname()[:255])
    return [id for id, process in neighbours.values_list("id", "process") if _is_gone(process)]


def process_identity(pid: int | None = None) -> str:
    """Return boot, pid namespace, pid and start time of a process on Linux, ``""`` elsewhere or if it is not there.

    A pid alone is used again; together with the rest it is not (proc(5): ``/proc/pid/stat``, field 22).
    """
    pid = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie is dead: only its parent has not asked yet.
    return "" if stat[0] in "ZX" else f"{boot} {namespace} {pid} {stat[19]}"


def _is_gone(process: str) -> bool:
    here = process_identity().split()
    there = process.split()
    if len(here) != 4 or len(there) != 4 or here[:2] != there[:2]:
        return False
    return process_identity(int(there[2])) != process

"""A worker's row and its lease: one claim on time for all jobs that it runs, renewed from a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.db import connections

from notifications import times
from notifications.conf import settings
from notifications.db import deadlines
from notifications.db.threads import start
from notifications.db.transactions import database, retrying_atomic
from notifications.ids import uuid7
from notifications.jobs.transitions.guards import database_now
from notifications.models import Worker

logger = logging.getLogger("notifications.jobs")

#: A lease is renewed this many times before it would end.
RENEWALS = 4
#: Seconds that the database may take to answer a renewal, at least; at most half a lease.
MIN_ANSWER_SECONDS = 2.0


class Lease:
    """Holds the row of one worker while it is started. ``load`` is asked for at each renewal."""

    def __init__(self, *, queues: Sequence[str], concurrency: int, load: Callable[[], int]) -> None:
        self.worker: UUID = uuid7()
        self._queues = ",".join(queues)
        self._concurrency = concurrency
        self._load = load
        self._stop = threading.Event()
        self._until: datetime | None = None
        self._unbroken_since = 0.0
        self._thread = threading.Thread(target=self._renew, name="notifications-lease", daemon=True)

    def start(self) -> None:
        """Insert the row and renew it from now on; after an error it can be called again.

        Raises ``django.db.Error`` when the database is away, ``NoThread`` when no thread can be started.
        """
        self._begin()
        start(self._thread)

    def stop(self) -> None:
        """Renew no more: the lease ends by itself, also where ``end`` finds the database away."""
        self._stop.set()

    def end(self) -> None:
        """Delete the row: what this worker still runs is lost from now on."""
        self.stop()
        if self._thread.ident:
            self._thread.join(timeout=1)
        retrying_atomic(lambda: Worker.objects.using(database()).filter(id=self.worker).delete())

    def may_reap(self) -> bool:
        """Whether renewing went well for one whole lease: after an outage others need time to renew theirs.

        A worker whose own lease is over may not: it was stopped, and so perhaps were the others; a laptop slept, say.
        """
        return (
            self._until is not None
            and time.monotonic() - self._unbroken_since >= settings.LEASE
            and database_now() < self._until
        )

    def _begin(self) -> None:
        until = database_now() + timedelta(seconds=settings.LEASE)
        row = Worker(
            id=self.worker,
            host=socket.gethostname()[:255],
            process=process_identity(),
            started_at=times.now(),
            lease_until=until,
            queues=self._queues[:1000],
            concurrency=self._concurrency,
        )
        # The row may be there: it was inserted, and the answer was lost.
        fields = ["lease_until", "load"]
        rows = Worker.objects.using(database())
        retrying_atomic(
            lambda: rows.bulk_create([row], update_conflicts=True, unique_fields=["id"], update_fields=fields)
        )
        self._until, self._unbroken_since = until, time.monotonic()

    def _renew(self) -> None:
        # Half a lease: there is time for one more renewal, on a new connection, before the lease is over.
        seconds = max(settings.LEASE / 2, MIN_ANSWER_SECONDS)
        deadlines.limit_this_thread(min(seconds, deadlines.ANSWER_SECONDS))
        pause = settings.LEASE / RENEWALS
        while not self._stop.wait(pause):
            try:
                until = retrying_atomic(self._extend) if self._until else None
                if until:
                    self._until = until
                elif not self._stop.is_set():
                    logger.warning(
                        "Worker %s begins a new lease: the old one was over or in doubt.", self.worker
                    )
                    self._begin()
                pause = settings.LEASE / RENEWALS
            except Exception as exc:  # without this thread others would take the jobs away that run here
                pause = 0 if self._until else settings.LEASE / RENEWALS
                self._until = None
                logger.warning("The lease of worker %s could not be renewed: %s", self.worker, exc)
                connections.close_all()
        connections.close_all()

    def _extend(self) -> datetime | None:
        """Renew the lease if it is not over, and return until when it holds now."""
        now = database_now()
        until = now + timedelta(seconds=settings.LEASE)
        held = Worker.objects.using(database()).filter(id=self.worker, lease_until__gte=now)
        now_is = {"lease_until": until, "load": self._load(), "outbound": _outbound()}
        return until if held.update(**now_is) else None


def _outbound() -> str:
    """What the calls of this process to other servers are doing, as JSON; "" where it makes none."""
    calls = sys.modules.get("notifications.outbound")  # not loaded for this: a third of a second
    return calls.overview.as_json() if calls else ""


def dead_neighbours() -> list[UUID]:
    """Return the workers of this host whose process is provably gone, so that their jobs go on at once."""
    neighbours = Worker.objects.using(database()).filter(host=socket.gethostname()[:255])
    return [id for id, process in neighbours.values_list("id", "process") if _is_gone(process)]


def process_identity() -> str:
    """Return boot, pid namespace, pid and start time of this process on Linux, ``""`` elsewhere.

    A pid alone is used again; together with the rest it is not.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        return f"{boot} {namespace} {os.getpid()} {_stat(os.getpid())[1]}"
    except OSError:
        return ""


def _is_gone(process: str) -> bool:
    """Whether a process is provably not there any more. What cannot be seen (``hidepid``, no free file) is no proof."""
    here, there = process_identity().split(), process.split()
    if len(here) != 4 or len(there) != 4 or here[:2] != there[:2]:
        return False
    pid = int(there[2])
    try:
        os.kill(pid, 0)  # signal 0 asks whether there is such a process
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    try:
        state, started = _stat(pid)
    except OSError:
        return False
    # A zombie is dead: only its parent has not asked yet.
    return state in "ZX" or started != there[3]


def _stat(pid: int) -> tuple[str, str]:
    """Return the state and the start time of a process: fields 3 and 22 of ``/proc/pid/stat`` (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]

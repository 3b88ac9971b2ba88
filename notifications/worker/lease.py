"""The lease of a worker: one row for all jobs that it runs, renewed from a thread of its own.

A worker whose lease is over is lost, and other workers take its jobs over.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from notifications import times
from notifications.conf import settings
from notifications.db import deadlines
from notifications.db.clock import database_now
from notifications.db.supervised import SupervisedThread
from notifications.db.threads import count_stuck_calls
from notifications.db.transactions import database, retrying_atomic
from notifications.db.unavailable import QUERY_ERRORS
from notifications.ids import uuid7
from notifications.models import Worker

logger = logging.getLogger("notifications.jobs")

#: Renewals in the time of one lease.
RENEWALS = 4
#: Seconds after which a renewal without an answer has failed: half a lease, but not less than this.
MIN_ANSWER_SECONDS = 2.0


class Lease:
    """The row of one worker, from ``start()`` to ``end()``.

    ``worker``
        The id of the worker.
    ``load``
        Returns how many jobs the worker runs, which each renewal stores.
    ``on_request``
        Called on the lease's thread with each new ``Worker.request``, "" when it is withdrawn.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str],
        concurrency: int,
        load: Callable[[], int],
        on_request: Callable[[str], object] | None = None,
    ) -> None:
        self.worker: UUID = uuid7()
        self._queues = ",".join(queues)
        self._concurrency = concurrency
        self._load = load
        self._on_request = on_request
        self._request = ""
        #: The end of the lease by the database's clock; None after a renewal failed.
        self._until: datetime | None = None
        #: When the first of the renewals succeeded that have not failed since (monotonic).
        self._unbroken_since = 0.0
        # After an outage it must be renewed before another worker may take the jobs: ``may_reap()``.
        self._thread = SupervisedThread(
            "notifications-lease",
            self._renew,
            session=self._doubt_at_end,
            max_pause=lambda: settings.LEASE / RENEWALS,
        )

    def start(self) -> None:
        """Insert the row, and renew it from now on. After an error this can be called again.

        Raises ``django.db.Error`` when the database is away, and ``NoThread`` when no thread can be started.
        """
        self._insert_row()
        self._thread.wake()

    def stop(self) -> None:
        """Stop renewing. The lease then ends by itself, even if ``end()`` fails because the database is away."""
        self._thread.stop()

    def end(self) -> None:
        """Delete the row, unless the database is away. Jobs that this worker still holds are lost from now on."""
        self._thread.stop(1.0)
        try:
            retrying_atomic(lambda: Worker.objects.using(database()).filter(id=self.worker).delete())
        except QUERY_ERRORS as exc:
            logger.warning("Could not delete the row of a worker, whose lease ends by itself: %s", exc)

    def may_reap(self) -> bool:
        """Return whether this worker may declare others lost: its renewals succeeded for one whole lease.

        After an outage of the database other workers need that time to renew their leases. If this worker's own lease
        is over, its process was suspended, as on a laptop that slept, and so perhaps were the others. If it ends later
        than one that begins now, the clock was set back, and the leases of the others look like those of a fast clock.
        """
        if self._until is None or time.monotonic() - self._unbroken_since < settings.LEASE:
            return False
        now = database_now()
        return now < self._until <= now + timedelta(seconds=settings.LEASE)

    def _insert_row(self) -> None:
        until = database_now() + timedelta(seconds=settings.LEASE)
        row = Worker(
            id=self.worker,
            host=socket.gethostname()[:255],
            process=process_identity(),
            started_at=times.now(),
            lease_until=until,
            queues=self._queues[:1000],
            concurrency=self._concurrency,
            request=self._request,
        )
        # The row may exist: its lease is over, or the answer to its insertion was lost.
        rows = Worker.objects.using(database())
        retrying_atomic(
            lambda: rows.bulk_create(
                [row], update_conflicts=True, unique_fields=["id"], update_fields=["lease_until", "load"]
            )
        )
        self._until, self._unbroken_since = until, time.monotonic()

    @contextmanager
    def _doubt_at_end(self) -> Iterator[None]:
        try:
            yield
        finally:  # an error, after which a new lease begins
            self._until = None

    def _renew(self) -> float:
        """Renew the lease, and return the seconds until the next renewal."""
        # After half a lease there is time for one more renewal, on a new connection.
        seconds = max(settings.LEASE / 2, MIN_ANSWER_SECONDS)
        deadlines.limit_this_thread(min(seconds, deadlines.ANSWER_SECONDS))
        until = retrying_atomic(self._extend) if self._until else None
        if until:
            if self._until and until < self._until:  # the clock was set back
                self._unbroken_since = time.monotonic()
            self._until = until
            self._read_request()
        elif not self._thread.is_stopped:
            self._insert_row()
            logger.warning("Lease was over or in doubt, beginning a new one for worker %s", self.worker)
        return settings.LEASE / RENEWALS

    def _extend(self) -> datetime | None:
        """Renew the lease and return its new end, or None if it is over."""
        now = database_now()
        until = now + timedelta(seconds=settings.LEASE)
        rows = Worker.objects.using(database()).filter(id=self.worker, lease_until__gte=now)
        is_renewed = rows.update(
            lease_until=until,
            load=self._load(),
            outbound=_overview(),
            memory=_resident_bytes(),
            stuck_calls=count_stuck_calls(),
        )
        return until if is_renewed else None

    def _read_request(self) -> None:
        if self._on_request is None:
            return
        rows = Worker.objects.using(database()).filter(id=self.worker)
        request = rows.values_list("request", flat=True).first()
        if request is not None and request != self._request:
            self._request = request
            self._on_request(request)


def _overview() -> str:
    """Return the state of this process's outbound calls as JSON, "" if it makes none.

    Nothing is imported for it, which would take a third of a second. While another thread imports it, the module is
    there without its functions.
    """
    as_json = getattr(sys.modules.get("notifications.outbound.overview"), "as_json", None)
    return as_json() if as_json else ""


def _resident_bytes() -> int | None:
    """Return the resident memory of this process, None where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def find_dead_neighbors() -> list[UUID]:
    """Return the workers of this host whose process has provably ended: their leases need not be waited for."""
    neighbors = Worker.objects.using(database()).filter(host=socket.gethostname()[:255])
    return [id for id, process in neighbors.values_list("id", "process") if _has_ended(process)]


def process_identity() -> str:
    """Return boot id, pid namespace, pid and start time of this process on Linux, "" elsewhere.

    A pid alone does not identify a process: the system uses it again.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        return f"{boot} {namespace} {os.getpid()} {_read_stat(os.getpid())[1]}"
    except OSError:
        return ""


def _has_ended(identity: str) -> bool:
    """Return whether a process has provably ended.

    False if that cannot be seen: in another pid namespace, with the mount option ``hidepid``, or without a free file
    descriptor.
    """
    own, other = process_identity().split(), identity.split()
    if len(own) != 4 or len(other) != 4 or own[:2] != other[:2]:
        return False
    pid = int(other[2])
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists, and belongs to another user
    try:
        state, start_time = _read_stat(pid)
    except OSError:
        return False
    # A zombie has ended; only its parent has not waited for it yet.
    return state in "ZX" or start_time != other[3]


def _read_stat(pid: int) -> tuple[str, str]:
    """Return state and start time of a process: fields 3 and 22 of ``/proc/pid/stat`` (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]

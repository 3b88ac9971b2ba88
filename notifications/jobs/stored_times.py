"""Times that were stored while a clock was wrong: find and correct them.

A stored time before which something does not happen, or at which it last happened, is at most its longest interval
ahead. One that lies beyond was stored while a clock was fast. It would stop what it gates until that time: a lease
would not end, a retry not begin, an alert not be evaluated. It is replaced, and ``doctor`` names it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Q

from notifications import times
from notifications.conf import settings
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, database, retrying_atomic
from notifications.jobs.schedules.declarations import declared_schedules
from notifications.jobs.transitions.guards import database_now, lock_query
from notifications.models import Alert, AlertState, Job, Schedule, ServerProcess, Worker

logger = logging.getLogger("notifications.jobs")

#: Seconds between two corrections by one process.
INTERVAL_SECONDS = 60.0
#: Leases that a lease may last at most: processes of two deployments may have different settings.
MAX_LEASES = 10

_corrected_at: float | None = None


class WrongTime(NamedTuple):
    """A stored time that is impossible: of which row and field."""

    row: Any
    field: str
    moment: datetime

    def __str__(self) -> str:
        return f"{self.row._meta.verbose_name} {self.row.pk}: {self.field} is {self.moment:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTime:
    """A field that gates something, and how far it may lie ahead. ``is_lease``: it is then set to that, else to now."""

    model: Any
    name: str
    rows: Q = field(default_factory=Q)
    longest: timedelta = timedelta(0)
    is_lease: bool = False

    def find(self, now: datetime) -> Any:
        """Return a query of the rows whose time lies too far ahead."""
        latest = times.latest_possible(now, self.longest)
        rows = self.model.objects.using(database()).filter(self.rows, **{f"{self.name}__gt": latest})
        return rows.order_by("pk")

    def correct(self, now: datetime) -> int:
        """Replace the times of some rows. Return how many."""

        def write() -> int:
            found = [row.pk for row in lock_query(self.find(now).only("pk"))[:MAX_ROWS_PER_TRANSACTION]]
            value = now + self.longest if self.is_lease else now
            rows = self.model.objects.using(database()).filter(pk__in=found)
            return int(rows.update(**{self.name: value})) if found else 0

        return retrying_atomic(write) if self.find(now).exists() else 0


def stored_times() -> tuple[StoredTime, ...]:
    """Return the fields that gate something, except those of which the reader itself finds that they are impossible."""
    lease = MAX_LEASES * timedelta(seconds=settings.LEASE)
    queued = Q(state=Job.State.QUEUED)
    return (
        StoredTime(model=Worker, name="lease_until", longest=lease, is_lease=True),
        StoredTime(model=ServerProcess, name="lease_until", longest=timedelta(minutes=10), is_lease=True),
        StoredTime(model=AlertState, name="evaluated_at"),
        StoredTime(model=AlertState, name="worker_seen_at"),
        StoredTime(model=AlertState, name="lease_lost_at"),
        StoredTime(model=Alert, name="seen_at", rows=Q(closed_at__isnull=True)),
        StoredTime(model=Schedule, name="last_tick"),
        # A project may enqueue a job for any time. After an attempt it is the time of a retry, at most a day later.
        StoredTime(
            model=Job,
            name="run_after",
            rows=queued & Q(attempt__gt=0) & ~Q(lane=Job.Lane.OBSERVED),
            longest=timedelta(days=1),
        ),
        # One query for each index.
        *(
            StoredTime(model=Job, name="hand_over_at", rows=queued & rows, longest=timedelta(minutes=30))
            for rows in (
                Q(lane=Job.Lane.HANDED),
                Q(lane=Job.Lane.ISOLATED, run_after=None),
                Q(lane=Job.Lane.ISOLATED, run_after__lte=times.now()),
            )
        ),
    )


def find_wrong_times() -> Iterator[WrongTime]:
    """Yield the stored times that are impossible, a bounded number of each kind."""
    now = database_now()
    for stored in stored_times():
        for row in stored.find(now)[:MAX_ROWS_PER_TRANSACTION]:
            yield WrongTime(row, stored.name, getattr(row, stored.name))
    declared = declared_schedules()
    for row in Schedule.objects.using(database()).filter(
        name__in=declared, paused_at=None, next_tick__gt=now
    ):
        if declared[row.name].timing.is_beyond_next(row.next_tick, now):
            yield WrongTime(row, "next_tick", row.next_tick)


def correct_wrong_times() -> None:
    """Replace stored times that are impossible. It does so once in ``INTERVAL_SECONDS``; call it more often."""
    global _corrected_at
    if _corrected_at is not None and time.monotonic() - _corrected_at < INTERVAL_SECONDS:
        return
    _corrected_at = time.monotonic()
    now = database_now()
    for stored in stored_times():
        if count := stored.correct(now):
            logger.warning(
                "Corrected times that were stored while a clock was wrong: %d rows of %s.%s",
                count,
                stored.model.__name__,
                stored.name,
            )

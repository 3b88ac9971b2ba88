"""The database's clock, by which all machines compare leases and elections, and times that a wrong clock has stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from notifications import times
from notifications.db.bulk import lock_query
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, connection, database, fair_atomic

#: The query for the time of PostgreSQL.
NOW_SQL = "SELECT clock_timestamp()"
#: How far a test has moved the clock: see ``notifications.testing.clock``.
clock_offset = timedelta()
#: Leases for which one may last at most: processes of two deployments may have different settings.
MAX_LEASES = 10
#: Seconds for which a measured difference between the clocks of this machine and of a database is used.
DIFFERENCE_VALID_SECONDS = 60.0
#: That difference, and until when it is valid (monotonic), by the alias of the database.
_differences: dict[str, tuple[timedelta, float]] = {}


def database_now() -> datetime:
    """Return the database's time, so that leases of several machines are compared by one clock."""
    db = connection()
    if db.vendor != "postgresql":
        return times.now() + clock_offset
    with db.cursor() as cursor:
        cursor.execute(NOW_SQL)
        return from_row(cursor.fetchone()[0])


def from_row(moment: datetime) -> datetime:
    """Return the database's time from the result of ``NOW_SQL``."""
    return times.from_db(moment, connection()) + clock_offset


def estimated_database_now() -> datetime:
    """Return the database's time, usually without a query: the difference of the clocks is measured once a minute.

    It may be wrong by the time that one query takes, and by what a clock was set within that minute.
    """
    db = connection()
    if db.vendor != "postgresql":
        return database_now()
    difference, valid_until = _differences.get(db.alias, (timedelta(), 0.0))
    if time.monotonic() > valid_until:
        difference = database_now() - clock_offset - times.now()
        _differences[db.alias] = difference, time.monotonic() + DIFFERENCE_VALID_SECONDS
    return times.now() + difference + clock_offset


def is_lease_over(now: datetime, lease_seconds: float) -> Q:
    """Return the condition of rows whose ``lease_until`` is past, or so far ahead that a clock was fast."""
    return Q(lease_until__lt=now) | Q(lease_until__gt=now + MAX_LEASES * timedelta(seconds=lease_seconds))


def database_now_sql(ahead: timedelta = timedelta(0)) -> tuple[str, Any]:
    """Return SQL for the database's time, or one ahead of it, and its parameter. It needs no extra round trip."""
    db = connection()
    if db.vendor != "postgresql":
        return "%s", times.to_db(database_now() + ahead, db)
    # A subquery is evaluated once. A volatile function in a condition is evaluated for each row, and no index is used.
    return "(SELECT clock_timestamp() + %s)", clock_offset + ahead


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTime:
    """A field that gates something.

    ``longest``
        How far it may lie ahead.
    ``changes``
        What is changed in place of setting it to now, or besides.
    ``can_repair``
        Whether it is replaced. Otherwise doctor only names it.
    """

    model: Any
    name: str
    rows: Q = field(default_factory=Q)
    longest: timedelta = timedelta(0)
    changes: Mapping[str, Any] = field(default_factory=dict)
    can_repair: bool = True

    def find(self, now: datetime) -> Any:
        """Return a query of the rows whose time lies too far ahead."""
        latest = times.latest_possible(now, self.longest)
        rows = self.model.objects.using(database()).filter(self.rows, **{f"{self.name}__gt": latest})
        return rows.order_by(self.name, "pk")  # the order of the indexes

    def repair(self, now: datetime) -> int:
        """Replace the times of all rows. Return how many."""

        def write() -> int:
            found = [row.pk for row in lock_query(self.find(now).only("pk"))[:MAX_ROWS_PER_TRANSACTION]]
            rows = self.model.objects.using(database()).filter(pk__in=found)
            return int(rows.update(**{self.name: now, **self.changes})) if found else 0

        count = 0
        while changed := fair_atomic(write):
            count += changed
        return count

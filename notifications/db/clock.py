"""The database's clock, by which all machines compare leases and elections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from notifications import times
from notifications.conf import settings
from notifications.db.dialects import dialect_of
from notifications.db.transactions import connection, dialect, execute_many

#: How far a test has moved the clock: see ``notifications.testing.clock``.
clock_offset = timedelta()
#: Leases for which one may last at most.
MAX_LEASES = 10
#: Seconds for which a measured difference between the clocks of this machine and of a database is used.
DIFFERENCE_VALID_SECONDS = 60.0
#: That difference, and until when it is valid (monotonic), by the alias of the database.
_differences: dict[str, tuple[timedelta, float]] = {}


def database_now(*, is_estimate: bool = False) -> datetime:
    """Return the database's time, so that leases of several machines are compared by one clock.

    ``is_estimate``
        Usually make no query, because the difference of the clocks is measured once a minute. The time may be wrong by
        what one query takes, and by what a clock was set within that minute.
    """
    db = connection()
    if not (query := dialect_of(db).clock_query()):
        return times.now() + clock_offset
    if is_estimate:
        difference, valid_until = _differences.get(db.alias, (timedelta(), 0.0))
        if time.monotonic() > valid_until:
            difference = database_now() - clock_offset - times.now()
            _differences[db.alias] = difference, time.monotonic() + DIFFERENCE_VALID_SECONDS
        return times.now() + difference + clock_offset
    with db.cursor() as cursor:
        cursor.execute(query)
        return _from_db(cursor.fetchone()[0])


def local_seconds() -> int:
    """Return the time of a database that runs in this process, in seconds since 1970, without conversions."""
    return int(time.time() + clock_offset.total_seconds())


def execute_with_now(sql: str, params: Sequence[Any]) -> tuple[list[tuple[Any, ...]], datetime]:
    """Return the rows of a statement, and the database's time after it, in one round trip."""
    if not (query := dialect().clock_query()):
        [rows] = execute_many([(sql, params)])
        return rows, database_now()
    rows, [(moment,)] = execute_many([(sql, params), (query, ())])
    return rows, _from_db(moment)


def now_column() -> str:
    """Return SQL of a column whose value ``now_from_column()`` converts."""
    return f"({dialect().clock_query() or 'NULL'})"


def now_from_column(moment: datetime | None) -> datetime:
    """Return the database's time from the value of ``now_column()``."""
    return _from_db(moment) if moment else database_now()


def _from_db(moment: datetime) -> datetime:
    return times.from_db(moment, connection()) + clock_offset


def is_in_force(until: datetime | None, now: datetime, longest: timedelta) -> bool:
    """Return whether what ends at a stored time still lasts: not if it is over, or longer than it can be.

    A clock that was fast has stored that then.
    """
    return until is not None and now < until <= times.latest_possible(now, longest)


def is_lease_valid(now: datetime, lease_seconds: float | None = None) -> Q:
    """Return the condition of rows whose ``lease_until`` is neither past, nor so far ahead that a clock was fast.

    A clock that was fast when a process ended would make it live until then.

    ``now``
        The database's time.
    ``lease_seconds``
        How long a lease is; None: as long as that of a worker.
    """
    return Q(lease_until__gte=now, lease_until__lte=now + longest_lease(lease_seconds))


def is_lease_over(now: datetime, lease_seconds: float | None = None) -> Q:
    """Return the condition of the other rows. See is_lease_valid()."""
    return Q(lease_until__lt=now) | Q(lease_until__gt=now + longest_lease(lease_seconds))


def longest_lease(lease_seconds: float | None = None) -> timedelta:
    """Return how far ahead a lease may end: processes of two deployments may have different settings."""
    return MAX_LEASES * timedelta(seconds=settings.LEASE if lease_seconds is None else lease_seconds)


def database_now_sql(ahead: timedelta = timedelta(0)) -> tuple[str, Any]:
    """Return SQL for the database's time, or one ahead of it, and its parameter. It needs no extra round trip."""
    db = connection()
    if not (query := dialect_of(db).clock_query()):
        return "%s", times.to_db(database_now() + ahead, db)
    # A subquery is evaluated once. A volatile function in a condition is evaluated for each row, and no index is used.
    return f"({query} + %s)", clock_offset + ahead

"""The epoch: the identity of all sequences of a database, which a restored backup replaces."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from notifications.db.transactions import connection, retrying_atomic
from notifications.models import Epoch


def epoch() -> str:
    """Return the epoch of the database, which is made at the first call.

    On PostgreSQL it ends with the timeline of the WAL, so that a failover that lost commits begins a new epoch.
    """
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT {columns()} FROM notifications_epoch WHERE id = 1")
        row = cursor.fetchone()
    if row is None:
        _insert_epoch()
        return epoch()
    return from_columns(row)


def columns() -> str:
    """Return the columns of the epoch's row that ``from_columns`` takes, as SQL."""
    if connection().vendor != "postgresql":
        return "value"
    return (
        "value, CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
    )


def from_columns(row: Sequence[Any]) -> str:
    """Return the epoch of a row of ``columns()``."""
    return "-".join(str(part).lower() for part in (uuid.UUID(str(row[0])), *row[1:]))


def _insert_epoch() -> None:
    value = Epoch._meta.get_field("value").get_db_prep_value(uuid.uuid4(), connection())
    with connection().cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_epoch (id, value) VALUES (1, %s) ON CONFLICT (id) DO NOTHING", [value]
        )


def begin_epoch() -> str:
    """Replace the epoch and return the new one. Every client then starts from a snapshot."""
    epoch()  # creates the row if it is missing

    def change() -> None:
        value = Epoch._meta.get_field("value").get_db_prep_value(uuid.uuid4(), connection())
        with connection().cursor() as cursor:
            cursor.execute("UPDATE notifications_epoch SET value = %s WHERE id = 1", [value])

    retrying_atomic(change)
    return epoch()

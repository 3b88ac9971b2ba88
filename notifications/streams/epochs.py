"""The epoch: the identity of all sequences of a database, which a restored backup replaces."""

from __future__ import annotations

import uuid

from notifications.db.transactions import connection, retrying_atomic
from notifications.models import Epoch


def epoch() -> str:
    """Return the epoch of the database, which is made at the first call.

    On PostgreSQL it ends with the timeline of the WAL, so that a failover that lost commits begins a new epoch.
    """
    db = connection()
    timeline = ""
    if db.vendor == "postgresql":
        timeline = (
            ", CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
        )
    with db.cursor() as cursor:
        cursor.execute(f"SELECT value{timeline} FROM notifications_epoch WHERE id = 1")
        row = cursor.fetchone()
        if row is None:
            cursor.execute(
                "INSERT INTO notifications_epoch (id, value) VALUES (1, %s) ON CONFLICT (id) DO NOTHING",
                [Epoch._meta.get_field("value").get_db_prep_value(uuid.uuid4(), db)],
            )
            return epoch()
    return "-".join(str(part).lower() for part in (uuid.UUID(str(row[0])), *row[1:]))


def begin_epoch() -> str:
    """Replace the epoch and return the new one. Every client then starts from a snapshot."""
    epoch()  # creates the row if it is missing

    def change() -> None:
        value = Epoch._meta.get_field("value").get_db_prep_value(uuid.uuid4(), connection())
        with connection().cursor() as cursor:
            cursor.execute("UPDATE notifications_epoch SET value = %s WHERE id = 1", [value])

    retrying_atomic(change)
    return epoch()

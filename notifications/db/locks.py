"""Queries that lock rows, where the database can, and locks of names that no row has."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from notifications.db.transactions import connection


def lock_name(kind: str, name: object) -> None:
    """Lock a name until the end of the transaction, after any other one that has locked it.

    For rows that are counted before one is inserted: there may be none that could be locked. On SQLite the lock of the
    database, which the app's own transactions take first, does it.
    """
    db = connection()
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_number(kind, str(name))])


def lock_number(kind: str, name: str) -> int:
    """Return the 64 bits of a name's advisory lock: a hash, because other users of the database have locks too."""
    text = f"notifications {kind} {name}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


def lock_query(rows: Any, *, skip_locked: bool = True) -> Any:
    """Return a query that locks its rows. Rows that another transaction holds are skipped, or else waited for."""
    features = connection().features
    if not features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=skip_locked, no_key=features.has_select_for_no_key_update)


def lock_sql(*, skip_locked: bool = True) -> str:
    """Return the SQL that ``lock_query`` appends to a query."""
    if not connection().features.has_select_for_update_skip_locked:
        return ""
    return " FOR NO KEY UPDATE SKIP LOCKED" if skip_locked else " FOR NO KEY UPDATE"

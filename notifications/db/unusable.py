"""Close database connections that have become unusable though they answer.

A server that was demoted reads on, and a session that was begun as read-only stays so when the server no longer is.
Django keeps such a connection, because it tries it by ``SELECT 1``.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.dialects import find_dialect
from notifications.db.sqlstates import closes_connection


def discard_unusable(exc: BaseException | None, connections: Iterable[BaseDatabaseWrapper]) -> None:
    """Close these connections of this thread after an error that belongs to the connection, not after another one.

    If one is inside a transaction, PostgreSQL has aborted that.
    """
    if closes_connection(exc):
        for db in connections:
            discard(db)


def discard(db: BaseDatabaseWrapper) -> None:
    """Close a connection of this thread. In a transaction it raises errors until the end of that."""
    if found := find_dialect(db):
        found.close_raw(db)
    if db.in_atomic_block:
        db.close_at = 0
    else:
        db.close()

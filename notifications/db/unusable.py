"""Close database connections that have become unusable though they answer.

A server that was demoted reads on, and a session that was begun as read-only stays so when the server no longer is.
Django keeps such a connection, because it tries it by ``SELECT 1``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.sqlstates import closes_connection


def discard_unusable(exc: BaseException | None, connections: Iterable[BaseDatabaseWrapper]) -> None:
    """Close these connections of this thread after an error that belongs to the connection, not after another one.

    One that is inside a transaction raises errors until its end, as PostgreSQL has aborted the transaction.
    """
    if not closes_connection(exc):
        return
    for db in connections:
        if db.vendor == "postgresql" and db.connection is not None:
            with contextlib.suppress(Exception):  # it may be broken
                db.connection.close()  # a pool of Django's would give it to the next request
        if db.in_atomic_block:
            db.close_at = 0
        else:
            db.close()

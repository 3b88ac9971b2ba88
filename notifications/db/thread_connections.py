"""The connections of a thread between two calls: they are checked after each, and closed.

One may have become unusable though it answers: a server that was demoted reads on, and a session that was begun as
read-only stays so when the server no longer is. Django keeps such a connection, because it tries it by ``SELECT 1``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.dialects import find_dialect
from notifications.db.sqlstates import closes_connection

logger = logging.getLogger("notifications")


def check_connections(*, keep: bool = False) -> bool:
    """Close connections of this thread that are too old, had an error, or are inside a transaction.

    Returns whether one was inside a transaction. The call may have caught the error. ``keep`` leaves them open whatever
    ``CONN_MAX_AGE`` says, but those of a pool of Django's. No connection is opened or tried.
    """
    had_transaction = False
    for connection in connections.all(initialized_only=True):
        settings = connection.settings_dict
        if keep and not settings["CONN_MAX_AGE"] and not settings["OPTIONS"].get("pool"):
            connection.close_at = None
        is_in_transaction = in_transaction(connection)
        if connection.in_atomic_block:
            # Reset the state as of a new connection: Django refuses to connect inside an atomic block.
            connection.in_atomic_block = False
            connection.savepoint_ids.clear()
            connection.atomic_blocks.clear()
            connection.run_on_commit.clear()
        if is_in_transaction or connection.errors_occurred:
            had_transaction |= is_in_transaction
            discard(connection)
        elif connection.connection is not None:
            connection.health_check_done = False
            is_old = connection.close_at is not None and time.monotonic() >= connection.close_at
            if is_old or connection.autocommit != settings["AUTOCOMMIT"]:
                connection.close()
    return had_transaction


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


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open: by ``atomic()``, with autocommit off, or by BEGIN."""
    if connection.connection is None or connection.in_atomic_block:
        return connection.in_atomic_block
    try:
        if found := find_dialect(connection):
            return found.has_open_transaction(connection)
    except connection.Database.Error:
        return False  # it is broken, and with it any transaction
    return not connection.autocommit


def is_in_use(db: BaseDatabaseWrapper) -> bool:
    """Return whether a connection is in an atomic block, or open without autocommit: to close it would lose work."""
    return db.in_atomic_block or (db.connection is not None and not db.autocommit)


def close_idle_connections() -> None:
    """Close the connections of this thread, except those in use."""
    for db in connections.all(initialized_only=True):
        if not is_in_use(db):
            db.close()


def close_connections(*, but: Collection[str] = ()) -> None:
    """Close the connections of Django on this thread, broken ones too, ``but`` those with these aliases."""
    for connection in connections.all(initialized_only=True):
        if connection.alias not in but:
            try:
                connection.close()
            except Error as exc:
                logger.debug("Could not close a broken connection: %s: %s", connection.alias, exc)

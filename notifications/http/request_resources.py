"""Release the database connections and the thread of a request before it waits."""

from __future__ import annotations

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


async def release_connections() -> None:
    """Close the connections that an async request has opened, in the thread that opened them, and end that thread."""
    await sync_to_async(close_connections)()
    release_thread()


def close_connections() -> None:
    """Close the connections of this thread, except those in a transaction, whose work would be lost."""
    for db in connections.all(initialized_only=True):
        if not _is_in_transaction(db):
            db.close()


def in_transaction() -> bool:
    """Return whether a connection of this thread, to any database, is in a transaction.

    Waiting would hold its locks. Without autocommit, an open connection is always in a transaction.
    """
    return any(_is_in_transaction(db) for db in connections.all(initialized_only=True))


def release_thread() -> None:
    """End the thread that runs the sync code of this request; asgiref would keep it until the response is sent.

    Sync code after the wait gets a new thread.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is None or getattr(context, "_executor", None):  # the executor belongs to another caller
        return
    executor = SyncToAsync.context_to_thread_executor.pop(context, None)
    if executor is not None:
        executor.shutdown(wait=False)


def _is_in_transaction(db: BaseDatabaseWrapper) -> bool:
    return db.in_atomic_block or (db.connection is not None and not db.autocommit)

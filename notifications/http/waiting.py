"""Requests that wait: how many of a user there may be, and what they give back before they do."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet, ref

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

#: Waiting requests of a user in one process.
MAX_WAITING_REQUESTS = 4

#: The task in which the server runs the request. A weak reference: the context belongs to the task itself.
_server_task: ContextVar[ref[asyncio.Task[Any]] | None] = ContextVar("server_task", default=None)

_lock = threading.Lock()
_taken: dict[Any, WeakSet[WaitSlot]] = {}


class WaitSlot:
    """The right of one request to wait, until it leaves. One that is lost on its way ends with the request."""

    __slots__ = ("__weakref__", "user")

    def __init__(self, user: Any) -> None:
        self.user = user

    def leave(self) -> None:
        """Make room for another request; once or more often."""
        with _lock:
            seats = _taken.get(self.user)
            if seats is not None:
                seats.discard(self)
                if not seats:
                    del _taken[self.user]


def take_wait_slot(user: Any) -> WaitSlot | None:
    """Return a seat for a request of this user (key); None if too many of them wait already."""
    seat = WaitSlot(user)
    with _lock:
        seats = _taken.setdefault(user, WeakSet())
        if len(seats) >= MAX_WAITING_REQUESTS:
            return None
        seats.add(seat)
    return seat


async def release_connections() -> None:
    """Close the connections that the request has opened, in the thread that opened them, and let that thread go."""
    await sync_to_async(close_connections)()
    release_thread()


def note_server_task() -> None:
    """Keep the current task as the one in which the server runs this request, until the answer is sent."""
    if task := asyncio.current_task():
        _server_task.set(ref(task))


def server_task() -> asyncio.Task[Any] | None:
    """Return the task in which the server runs this request, or else the current one.

    A sync view that waits does so in a task of its own, whose end says nothing about the answer.
    """
    noted = _server_task.get()
    return (noted and noted()) or asyncio.current_task()


def in_transaction() -> bool:
    """Return whether this thread is in a transaction, of whatever database: to wait there would hold its locks.

    Without autocommit an open connection is always in one.
    """
    return any(_is_in_transaction(db) for db in connections.all(initialized_only=True))


def close_connections() -> None:
    """Close the connections of this thread; not in a transaction, whose work would be lost."""
    for db in connections.all(initialized_only=True):
        if not _is_in_transaction(db):
            db.close()


def _is_in_transaction(db: BaseDatabaseWrapper) -> bool:
    return db.in_atomic_block or (db.connection is not None and not db.autocommit)


def release_thread() -> None:
    """End the thread that Django gave the request for its synchronous parts, and keeps until the answer is sent.

    What comes after the wait gets a new one.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is None or getattr(context, "_executor", None):  # it belongs to somebody else
        return
    executor = SyncToAsync.context_to_thread_executor.pop(context, None)
    if executor is not None:
        executor.shutdown(wait=False)

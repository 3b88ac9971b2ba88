"""Requests that wait: how many of a user may, what they release before it, and the task that the server runs them in.

It imports no models, because projects import ``api`` and ``asgi`` before these are loaded.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet, WeakValueDictionary, ref

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections

from notifications.db.thread_connections import close_idle_connections, is_in_use
from notifications.problems import Problem

#: Waiting requests (long polls and event streams) of one user in one process.
MAX_WAITING_REQUESTS = 4
#: The ``Retry-After`` of a response when all wait slots of a user are taken.
RETRY_AFTER_SECONDS = 5

#: A weak reference, because the task owns the context in which it stands.
_server_task: ContextVar[ref[asyncio.Task[Any]] | None] = ContextVar("server_task", default=None)
_lock = threading.Lock()
#: The slots of each user, as long as one of them is held.
_slots: WeakValueDictionary[Any, WeakSet[WaitSlot]] = WeakValueDictionary()


class WaitSlot:
    """The permission of one request to wait. It is held weakly: a forgotten one ends with its request."""

    __slots__ = ("__weakref__", "_slots_of_user")

    def __init__(self, slots_of_user: WeakSet[WaitSlot]) -> None:
        self._slots_of_user: WeakSet[WaitSlot] | None = slots_of_user

    def release(self) -> None:
        """Free the slot for another request. Repeated calls have no effect."""
        with _lock:
            slots, self._slots_of_user = self._slots_of_user, None
            if slots is not None:
                slots.discard(self)


def acquire_wait_slot(user: Any, limit: int = MAX_WAITING_REQUESTS) -> WaitSlot | None:
    """Return a slot for a request of this user (key), or None if all of them are taken."""
    with _lock:
        slots = _slots.get(user)
        if slots is None:
            slots = _slots[user] = WeakSet()
        if len(slots) >= limit:
            return None
        slot = WaitSlot(slots)
        slots.add(slot)
    return slot


def require_wait_slot(user: Any, limit: int = MAX_WAITING_REQUESTS) -> WaitSlot:
    """Return a slot for a request of this user (key). Raises Problem 429 if all of them are taken."""
    slot = acquire_wait_slot(user, limit)
    if slot is None:
        raise Problem(
            429,
            f"{limit} requests of this user are waiting already. "
            "End one of them, or send this one without waiting.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return slot


async def release_connections() -> None:
    """Close the connections that an async request has opened, in the thread that opened them, and end that thread."""
    await sync_to_async(close_idle_connections)()
    release_thread()


def in_transaction() -> bool:
    """Return whether a connection of this thread, to any database, is in a transaction.

    Waiting would hold its locks.
    """
    return any(is_in_use(db) for db in connections.all(initialized_only=True))


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


def remember_server_task() -> None:
    """Store the current task as the one that runs until the response of this request has been sent."""
    if task := asyncio.current_task():
        _server_task.set(ref(task))


def get_server_task() -> asyncio.Task[Any] | None:
    """Return the stored task, or the current one if none is stored.

    A sync view waits in a task of its own (``async_to_sync``), which ends before the response is sent.
    """
    stored = _server_task.get()
    return (stored and stored()) or asyncio.current_task()

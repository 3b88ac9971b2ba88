"""The asyncio task in which the server runs a request."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import ref

#: A weak reference, because the task owns the context in which it stands.
_server_task: ContextVar[ref[asyncio.Task[Any]] | None] = ContextVar("server_task", default=None)


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

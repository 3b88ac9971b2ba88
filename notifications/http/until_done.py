"""Waiting in a request until a job is done, or the client would wait no longer. It is the doorbell that wakes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from notifications.db.threads import NoThread
from notifications.exceptions import JobDoesNotExist
from notifications.http.waiting import server_task
from notifications.jobs.awaited import waits
from notifications.realtime import doorbell, hub

#: Then what was known before is answered.
_OVER = (TimeoutError, JobDoesNotExist, DatabaseError, InterfaceError)


async def wait(id: UUID, seconds: float) -> None:
    """Wait at most so many seconds, and no longer than the server lives. Whoever asked must hold no connection.

    Where no thread can be started that would look for the job, this returns at once.
    """
    here = hub.current_hub()
    if task := server_task():
        here.waiting.add(task)
    with contextlib.suppress(NoThread), waits.wait_for(id, doorbell.listen) as future:
        ends = asyncio.ensure_future(here.ending.wait())
        done = asyncio.wrap_future(future)
        either: list[asyncio.Future[Any]] = [done, ends]
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                with contextlib.suppress(*_OVER):
                    done.result()
        finally:
            ends.cancel()
            done.cancel()

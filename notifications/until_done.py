"""Waiting in a request until a job is done, or the client would wait no longer. It is the doorbell that wakes."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from notifications.exceptions import JobDoesNotExist
from notifications.jobs.awaited import waits
from notifications.realtime import doorbell

#: Then what was known before is answered.
_OVER = (TimeoutError, JobDoesNotExist, DatabaseError, InterfaceError)


def wait(id: UUID, seconds: float) -> None:
    """Wait in this thread, at most so many seconds. It must hold no connection."""
    with waits.wait_for(id, doorbell.listen) as future, contextlib.suppress(*_OVER):
        future.result(seconds)


async def await_(id: UUID, seconds: float) -> None:
    """See wait(): without a thread."""
    with waits.wait_for(id, doorbell.listen) as future, contextlib.suppress(*_OVER):
        async with asyncio.timeout(seconds):
            await asyncio.wrap_future(future)

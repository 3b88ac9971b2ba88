"""Wait in a request until a job is done. Rings of the doorbell end the wait."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID

from notifications.db.threads import NoThread
from notifications.db.unavailable import QUERY_ERRORS
from notifications.exceptions import JobDoesNotExist
from notifications.http.server_task import get_server_task
from notifications.jobs.job_ends import end_reader
from notifications.realtime import doorbell, hub

#: Errors of the lookup. The wait ends, and the response shows the job as it was read before.
_LOOKUP_ERRORS = (TimeoutError, JobDoesNotExist, *QUERY_ERRORS)


async def wait_for_job(job_id: UUID, seconds: float) -> None:
    """Wait until a job is done, at most ``seconds``, and no longer than the server runs.

    The caller must not hold a database connection. Returns immediately if no thread can be started for the lookup.
    """
    current_hub = hub.current_hub()
    if task := get_server_task():
        current_hub.waiting_requests.add(task)
    with contextlib.suppress(NoThread), end_reader.wait_for(job_id, doorbell.listen) as future:
        hub_ends = asyncio.ensure_future(current_hub.stopping.wait())
        job_ends = asyncio.wrap_future(future)
        either: list[asyncio.Future[Any]] = [job_ends, hub_ends]
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if job_ends.done():
                with contextlib.suppress(*_LOOKUP_ERRORS):
                    job_ends.result()
        finally:
            hub_ends.cancel()
            job_ends.cancel()

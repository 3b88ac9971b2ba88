"""Wait in a request until a job is done, and respond with the job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any
from uuid import UUID

from django.http import HttpResponse

from notifications import serializers
from notifications.db.threads import NoThread
from notifications.db.unavailable import QUERY_ERRORS
from notifications.exceptions import JobDoesNotExist
from notifications.http.access import json_response
from notifications.http.waiting_requests import get_server_task
from notifications.jobs.job_ends import end_reader
from notifications.models import Job
from notifications.realtime import doorbell, hub

logger = logging.getLogger("notifications")

#: Seconds after which a client polls a job that is not done.
RETRY_AFTER_SECONDS = 1
#: Errors of the lookup. The wait ends, and the response shows the job as it was read before.
_LOOKUP_ERRORS = (TimeoutError, JobDoesNotExist, *QUERY_ERRORS)


def job_response(
    job: Job, *, status: int = 200, headers: dict[str, str | None] | None = None
) -> HttpResponse:
    """Return a job as JSON, with ``ETag``, and ``Retry-After`` until it is done. Headers that are None are omitted."""
    response = json_response(serializers.encode_item(job), status=status)
    for name, value in (headers or {}).items():
        if value:
            response[name] = value
    if not job.done:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    response["ETag"] = job_etag(job)
    return response


def job_etag(job: Job) -> str:
    """Return the entity tag of a job. Every change raises its version, except numbering, which sets its seq."""
    return f'"{job.version}-{job.seq or 0}"'


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
                try:
                    job_ends.result()
                except _LOOKUP_ERRORS as exc:  # the response says what the job is now
                    logger.debug("Could not wait for the end of job %s: %s", job_id, exc)
        finally:
            hub_ends.cancel()
            job_ends.cancel()

"""Responses that show a job."""

from __future__ import annotations

from django.http import HttpResponse

from notifications import serializers
from notifications.models import Job
from notifications.problems import prevent_caching

#: Seconds after which a client polls a job that is not done.
RETRY_AFTER_SECONDS = 1


def job_response(
    job: Job, *, status: int = 200, headers: dict[str, str | None] | None = None
) -> HttpResponse:
    """Return a job as JSON, with ``ETag``, and ``Retry-After`` until it is done. Headers that are None are omitted."""
    response = HttpResponse(serializers.encode_item(job), content_type="application/json", status=status)
    for name, value in (headers or {}).items():
        if value:
            response[name] = value
    if not job.done:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    response["ETag"] = job_etag(job)
    return prevent_caching(response)


def job_etag(job: Job) -> str:
    """Return the entity tag of a job. Every change raises its version, except numbering, which sets its seq."""
    return f'"{job.version}-{job.seq or 0}"'

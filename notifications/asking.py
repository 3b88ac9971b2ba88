"""The answer to a request for something slow: accepted, and here is where to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, transaction
from django.http import HttpRequest, HttpResponse

from notifications import paths
from notifications.compat import TaskResult
from notifications.exceptions import KeyReused, TooManyJobs
from notifications.jobs.owners import asked_in_request
from notifications.models import Job
from notifications.problems import Problem, busy, log_database_error
from notifications.realtime import wire
from notifications.transactions import begin_with_a_write, database

#: Seconds after which a client may ask again how far its job is.
RETRY_AFTER = 1


def accept(request: HttpRequest, ask: Callable[[], TaskResult]) -> HttpResponse:
    """See ``notifications.api.accepted``."""
    try:
        job = _ask(request, ask)
    except TooManyJobs as exc:
        return Problem(429, str(exc), headers={"Retry-After": "10"}).response()
    except KeyReused as exc:
        return Problem(422, str(exc)).response()
    except (OperationalError, InterfaceError) as exc:
        log_database_error(exc)
        return busy().response()
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return HttpResponse(status=303, headers={"Location": job.url or paths.job_page(job.id)})
    return job_response(job, status=202, headers={"Location": wire.job_item(job)["links"]["self"]})


async def aaccept(request: HttpRequest, ask: Callable[[], TaskResult]) -> HttpResponse:
    """See ``notifications.api.accepted``."""
    return await sync_to_async(accept)(request, ask)


def job_response(job: Job, *, status: int = 200, headers: dict[str, Any] | None = None) -> HttpResponse:
    """Return a job as JSON, with what a client needs to ask again."""
    response = HttpResponse(wire.encode(wire.job_item(job)), content_type="application/json", status=status)
    for name, value in (headers or {}).items():
        if value:
            response[name] = value
    if not job.done:
        response["Retry-After"] = str(RETRY_AFTER)
    response["ETag"] = job_etag(job)
    response["Cache-Control"] = "no-store"
    return response


def job_etag(job: Job) -> str:
    """Return the entity tag of a job as it is now: each change raises the version, its number the seq."""
    return f'"{job.version}-{job.seq or 0}"'


def _ask(request: HttpRequest, ask: Callable[[], TaskResult]) -> Job:
    with transaction.atomic(using=database()):
        begin_with_a_write()
        with asked_in_request(getattr(request, "user", None)):
            result = ask()
        if not isinstance(result, TaskResult):
            raise TypeError(f"ask returned {result!r}. It must return what enqueue() returned.")
        return Job.objects.using(database()).get(pk=result.id)

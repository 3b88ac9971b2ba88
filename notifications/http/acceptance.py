"""``accepted()``: enqueue a job for a request and return a response that shows the job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import iri_to_uri

from notifications import paths
from notifications.compat import Task
from notifications.db.outages import is_own_outage
from notifications.db.project_code import name_of
from notifications.db.thread_connections import close_idle_connections
from notifications.db.threads import NoThread
from notifications.db.transactions import database
from notifications.db.unavailable import OUTAGES, UNAVAILABLE
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs
from notifications.extension import hooks
from notifications.extension.calls import call_of
from notifications.http.access import leave_session_unsaved
from notifications.http.idempotency import enqueue_once
from notifications.http.job_responses import RETRY_AFTER_SECONDS, job_response, wait_for_job
from notifications.http.negotiation import prefers_async, prefers_html, wait_seconds
from notifications.http.waiting_requests import WaitSlot, acquire_wait_slot, in_transaction, release_thread
from notifications.models import Job
from notifications.problems import Problem, log_database_error, prevent_caching, refuse_for_database
from notifications.realtime import hub

if TYPE_CHECKING:
    from notifications.jobs.declaring.task_types import HasReturnValue

logger = logging.getLogger("notifications")

#: Methods that clients may repeat at any time (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: Names of the views for which a warning has been logged.
_warned_views: set[str] = set()


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedJob:
    """The job of a request. With a slot the response waits at most ``seconds`` until the job is done.

    ``headers``
        What extensions add to the response.
    """

    job: Job
    is_replay: bool
    headers: Mapping[str, str]
    seconds: int = 0
    slot: WaitSlot | None = None


def accept(request: HttpRequest, enqueue: Callable[[], HasReturnValue[object]]) -> HttpResponse:
    """See ``notifications.api.accepted``."""
    accepted = _enqueue_or_refuse(request, enqueue)
    if isinstance(accepted, HttpResponse):
        return accepted
    if accepted.slot:
        try:
            # On the server's event loop: it cancels the wait, and so ends this thread, when the client disconnects.
            async_to_sync(wait_for_job)(accepted.job.id, accepted.seconds)
        finally:
            accepted.slot.release()
        accepted = replace(accepted, job=_reread(accepted.job))
    return _response(request, accepted)


async def aaccept(request: HttpRequest, enqueue: Callable[[], HasReturnValue[object]]) -> HttpResponse:
    """See ``notifications.api.accepted``."""
    accepted = await sync_to_async(_enqueue_or_refuse)(request, enqueue)
    if isinstance(accepted, HttpResponse):
        return accepted
    if accepted.slot:
        current_hub = hub.current_hub()
        try:
            release_thread()
            await wait_for_job(accepted.job.id, accepted.seconds)
        finally:
            accepted.slot.release()
        with suppress(NoThread):  # then the response shows the job as it was
            accepted = replace(accepted, job=await current_hub.query_pool.run(_reread, accepted.job))
    return _response(request, accepted)


def _enqueue_or_refuse(
    request: HttpRequest, enqueue: Callable[[], HasReturnValue[object]]
) -> AcceptedJob | HttpResponse:
    """Enqueue the job and prepare to wait for it: with a slot, this thread holds no connection any more."""
    if isinstance(enqueue, Task) or not callable(enqueue):
        raise TypeError(
            f"accepted() got {enqueue!r}. Pass a function that enqueues and returns the job: "
            "accepted(request, lambda: task.enqueue(...))."
        )
    may_wait = not in_transaction()
    try:
        made = {label: hook(request) for label, hook in hooks.accept.items()}
        takes = [call_of(function, label, "accept") for label, function in made.items() if function]
        headers: dict[str, str] = {}

        def take(job: Job, *, is_new: bool = True) -> None:
            for function in takes:
                headers.update(function(job, is_new) or {})

        job, is_replay = enqueue_once(request, enqueue, take)
        if is_replay:
            take(job, is_new=False)
    except Problem as problem:
        return problem.response()
    except TooManyJobs as exc:
        return Problem(429, str(exc), headers={"Retry-After": str(exc.retry_after)}).response()
    except IdempotencyKeyConflict as exc:
        return Problem(422, str(exc)).response()
    except OUTAGES as exc:
        if not is_own_outage(exc):
            raise
        return leave_session_unsaved(request, refuse_for_database(exc))
    if request.method in SAFE_METHODS and not is_replay:
        _warn_of_safe_method(request)
    accepted = AcceptedJob(job=job, is_replay=is_replay, headers=headers)
    if not may_wait or prefers_html(request):
        return accepted
    return _prepare_wait(request, accepted)


def _prepare_wait(request: HttpRequest, accepted: AcceptedJob) -> AcceptedJob:
    seconds = 0 if prefers_async(request) else wait_seconds(request)
    if not seconds or accepted.job.done:
        return replace(accepted, seconds=seconds)
    user = getattr(getattr(request, "user", None), "pk", None)
    # Requests without a user share the slots of their address: those of one client would take all.
    slot = acquire_wait_slot(("address", request.META.get("REMOTE_ADDR")) if user is None else user)
    if slot is None:  # too many of them wait: 202
        return accepted
    close_idle_connections()
    return replace(accepted, seconds=seconds, slot=slot)


def _warn_of_safe_method(request: HttpRequest) -> None:
    """Log once for each view that it enqueues jobs for a method without side effects."""
    match = request.resolver_match
    view = name_of(match.func) if match else "a view outside the URLconf"
    if view in _warned_views:
        return
    _warned_views.add(view)
    logger.warning(
        "Enqueued a job for a safe request, which crawlers, prefetches and reloads repeat: %s of %s. "
        "Accept POST only, for example with @require_POST.",
        request.method,
        view,
    )


def _response(request: HttpRequest, accepted: AcceptedJob) -> HttpResponse:
    job = accepted.job
    job_path = paths.job_path(job.id, "api-job") or None
    if prefers_html(request):
        location = iri_to_uri(job.url) or paths.localize_link(paths.job_path(job.id))
        response = prevent_caching(HttpResponse(status=303, headers={"Location": location}))
    elif job.done and accepted.seconds:
        response = job_response(job, headers={"Content-Location": job_path})
    else:
        headers = {"Location": job_path, "Retry-After": str(RETRY_AFTER_SECONDS)}
        response = job_response(job, status=202, headers=headers)
    for name, value in accepted.headers.items():
        response[name] = value
    if accepted.is_replay:
        response["Idempotency-Replayed"] = "true"
    if accepted.seconds:
        response["Preference-Applied"] = f"wait={accepted.seconds}"
    elif response.status_code == 202 and prefers_async(request):
        response["Preference-Applied"] = "respond-async"
    return response


def _reread(job: Job) -> Job:
    """Return a job as it is now, or ``job`` if it cannot be read: the request has been accepted in any case."""
    try:
        return Job.objects.using(database()).filter(pk=job.id).first() or job
    except UNAVAILABLE as exc:
        log_database_error(exc)
        return job

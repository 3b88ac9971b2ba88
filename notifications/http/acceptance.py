"""The answer to a request for something slow: accepted, and here is where to look."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import iri_to_uri

from notifications import paths, serializers
from notifications.compat import TaskResult
from notifications.db.threads import NoThread
from notifications.db.transactions import begin_with_write, connection, database
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs
from notifications.http import until_done
from notifications.http.idempotency import Key, KeyTaken, key_of
from notifications.http.prefer import seconds_to_wait, will_not_wait
from notifications.http.requests import preferred_type
from notifications.http.waiting import (
    WaitSlot,
    close_connections,
    in_transaction,
    release_thread,
    take_wait_slot,
)
from notifications.jobs.enqueueing.owners import owner_from_request, owner_key
from notifications.jobs.enqueueing.rate_limit import limit_request
from notifications.jobs.host_code import name_of
from notifications.models import Job
from notifications.problems import Problem, busy, log_database_error, private
from notifications.realtime import hub

logger = logging.getLogger("notifications")

#: Methods that clients repeat as they like (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: Names of the views that a warning was logged for.
_warned_views: set[str] = set()

#: Seconds after which a client may ask again how far its job is.
RETRY_AFTER = 1
#: Times that a request with a key is tried whose key is taken, and free when one looks.
MAX_TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedJob:
    """The job that a request got, whether an earlier one got it, and for how long the answer may wait for its end."""

    job: Job
    replayed: bool = False
    seconds: int = 0
    seat: WaitSlot | None = None


def accept(request: HttpRequest, ask: Callable[[], TaskResult]) -> HttpResponse:
    """See ``notifications.api.accepted``."""
    asked = _enqueue_or_refuse(request, ask)
    if isinstance(asked, AcceptedJob) and asked.seat:
        try:
            # On the loop of the server, where it is ended when the client goes, and this thread with it.
            async_to_sync(until_done.wait)(asked.job.id, asked.seconds)
        finally:
            asked.seat.leave()
        asked = replace(asked, job=_reread(asked.job))
    return asked if isinstance(asked, HttpResponse) else _response(request, asked)


async def aaccept(request: HttpRequest, ask: Callable[[], TaskResult]) -> HttpResponse:
    """See ``notifications.api.accepted``."""
    asked = await sync_to_async(_enqueue_or_refuse)(request, ask)
    if isinstance(asked, AcceptedJob) and asked.seat:
        here = hub.current_hub()
        try:
            release_thread()
            await until_done.wait(asked.job.id, asked.seconds)
        finally:
            asked.seat.leave()
        with suppress(NoThread):  # then as it was
            asked = replace(asked, job=await here.questions.run(_reread, asked.job))
    return asked if isinstance(asked, HttpResponse) else _response(request, asked)


def job_response(job: Job, *, status: int = 200, headers: dict[str, Any] | None = None) -> HttpResponse:
    """Return a job as JSON, with what a client needs to ask again."""
    response = HttpResponse(serializers.encode_item(job), content_type="application/json", status=status)
    for name, value in (headers or {}).items():
        if value:
            response[name] = value
    if not job.done:
        response["Retry-After"] = str(RETRY_AFTER)
    response["ETag"] = job_etag(job)
    return private(response)


def job_etag(job: Job) -> str:
    """Return the entity tag of a job as it is now: each change raises the version, its number the seq."""
    return f'"{job.version}-{job.seq or 0}"'


def _enqueue_or_refuse(request: HttpRequest, ask: Callable[[], TaskResult]) -> AcceptedJob | HttpResponse:
    """Ask, and sit down to wait where the client wants to; then no connection is held here."""
    may_wait = not in_transaction()
    try:
        asked = _enqueue_once(request, ask)
    except Problem as problem:
        return problem.response()
    except TooManyJobs as exc:
        return Problem(429, str(exc), headers={"Retry-After": str(exc.retry_after)}).response()
    except IdempotencyKeyConflict as exc:
        return Problem(422, str(exc)).response()
    except (OperationalError, InterfaceError) as exc:
        log_database_error(exc)
        return busy().response()
    if request.method in SAFE_METHODS and not asked.replayed:
        _warn_of_safe_method(request)
    if not may_wait or _prefers_a_page(request):
        return asked
    return _take_wait_slot(request, asked)


def _warn_of_safe_method(request: HttpRequest) -> None:
    """Log once for each view that it enqueued a job for a method that clients take for free of effects."""
    match = request.resolver_match
    view = name_of(match.func) if match else "a view outside the URLconf"
    if view in _warned_views:
        return
    _warned_views.add(view)
    logger.warning(
        "A job was enqueued by a safe request, which crawlers, prefetches and reloads repeat: %s of %s. "
        "Accept POST only, for example with @require_POST.",
        request.method,
        view,
    )


def _enqueue_once(request: HttpRequest, ask: Callable[[], TaskResult]) -> AcceptedJob:
    """Ask, unless an equal request with the same key was answered."""
    with owner_from_request(getattr(request, "user", None)), limit_request() as got:
        owner = owner_key()  # here, because a session may be read for it: not while SQLite's lock is held
        key = key_of(request, owner)
        if key is None:
            return _enqueue(ask, got, owner, None)
        for _ in range(MAX_TRIES):
            try:
                return _enqueue(ask, got, owner, key)
            except KeyTaken as exc:
                # Rolled back, with all that ask did. A caller's transaction may have a snapshot without the other.
                there = key.job(exc.owner)
            except Exception as exc:
                # What the other request has done may be in the way before its key is: a row, a limit.
                there = _first_job(key, owner, exc)
                if there is None and not _is_serialization_failure(exc):
                    raise
            if there:
                return AcceptedJob(job=there, replayed=True)
    raise _being_answered()


def _first_job(key: Key, owner: Any, exc: Exception) -> Job | None:
    """Return the job of an equal request that came first, as ours failed; None where there is none, or none to be seen.

    Raises Problem 503 where only others see it: a caller's transaction may have an older snapshot.
    """
    if isinstance(exc, (OperationalError, InterfaceError)) and not _is_serialization_failure(exc):
        return None
    try:
        there = key.job(owner)
        if there is None and connection().in_atomic_block and connection().vendor == "postgresql":
            with ThreadPoolExecutor(1) as beside:
                if beside.submit(_is_visible_elsewhere, key, owner).result():
                    raise _being_answered()
        return there
    except (OperationalError, InterfaceError) as error:
        log_database_error(error)
        return None


def _is_visible_elsewhere(key: Key, owner: Any) -> bool:
    try:
        return key.job(owner) is not None
    finally:
        connections.close_all()


def _being_answered() -> Problem:
    return Problem(
        503,
        "Another request with this Idempotency-Key is being answered. Send this one again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )


def _enqueue(
    ask: Callable[[], TaskResult], got: dict[Any, Job | None], owner: Any, key: Key | None
) -> AcceptedJob:
    with transaction.atomic(using=database()), _default_database_atomic():
        begin_with_write()
        if key and (there := key.job(owner)):
            return AcceptedJob(job=there, replayed=True)
        result = ask()
        if not isinstance(result, TaskResult):
            raise TypeError(f"ask returned {result!r}. It must return what enqueue() returned.")
        job = got.get(owner)
        if job is None or str(job.id) != result.id:
            job = Job.objects.using(database()).get(pk=result.id)
        if key:
            key.give(job)
        return AcceptedJob(job=job)


def _default_database_atomic() -> AbstractContextManager[Any]:
    """Where the app has a database of its own: a transaction of the project's too, which ends in the same way.

    It is committed first, so that no worker meets a job without what it works on.
    """
    return nullcontext() if database() == DEFAULT_DB_ALIAS else transaction.atomic()


def _is_serialization_failure(exc: Exception) -> bool:
    """Whether it was one, and the transaction is over, so that there is something to see."""
    return getattr(exc.__cause__, "sqlstate", "") == "40001" and not connection().in_atomic_block


def _take_wait_slot(request: Any, asked: AcceptedJob) -> AcceptedJob:
    seconds = 0 if will_not_wait(request) else seconds_to_wait(request)
    if not seconds or asked.job.done:
        return replace(asked, seconds=seconds)
    seat = take_wait_slot(getattr(getattr(request, "user", None), "pk", None))
    if seat is None:  # too many of its requests wait
        return asked
    close_connections()
    return replace(asked, seconds=seconds, seat=seat)


def _response(request: Any, asked: AcceptedJob) -> HttpResponse:
    job = asked.job
    here = paths.job_path("api-job", job.id)
    if _prefers_a_page(request):
        response = HttpResponse(
            status=303, headers={"Location": iri_to_uri(job.url) or paths.job_page(job.id)}
        )
        private(response)
    elif job.done and asked.seconds:
        response = job_response(job, headers={"Content-Location": here})
    else:
        response = job_response(job, status=202, headers={"Location": here, "Retry-After": str(RETRY_AFTER)})
    if asked.replayed:
        response["Idempotency-Replayed"] = "true"
    if asked.seconds:
        response["Preference-Applied"] = f"wait={asked.seconds}"
    elif response.status_code == 202 and will_not_wait(request):
        response["Preference-Applied"] = "respond-async"
    return response


def _prefers_a_page(request: Any) -> bool:
    return preferred_type(request, ["application/json", "text/html"]) == "text/html"


def _reread(job: Job) -> Job:
    """Return a job as it is now, or as it was where that cannot be seen: it is accepted in any case."""
    try:
        return Job.objects.using(database()).filter(pk=job.id).first() or job
    except (OperationalError, InterfaceError) as exc:
        log_database_error(exc)
        return job

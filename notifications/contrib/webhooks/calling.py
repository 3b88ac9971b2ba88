"""The request header ``Callback-URL``, and the task that calls this URL when the job of the request ends.

The caller has no secret that could sign it, so it carries nothing that is worth one: which job has ended and how, and
where to request the job. The receiver requests it with its own credentials, and so also finds out what is true. It is
sent at least once, with the same ``webhook-id`` in each attempt, and tried again as webhooks are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.utils.translation import gettext

from notifications import times
from notifications.api import policy
from notifications.conf import settings
from notifications.contrib.webhooks.handlers import load_handlers
from notifications.contrib.webhooks.models import JobCallback, WebhookAttempt
from notifications.contrib.webhooks.sending import (
    POLICY,
    EndpointResponse,
    WebhookNotSent,
    find_success,
    insert_attempt,
    make_attempt,
)
from notifications.contrib.webhooks.signing import ID_HEADER, TIMESTAMP_HEADER
from notifications.db import app_sync_to_async, database, lock_query, retrying_atomic
from notifications.http import Problem, encode_json
from notifications.inbox import absolute, job_path
from notifications.jobs import own_task
from notifications.models import ACTIVE, Job
from notifications.validators import MAX_URL_LENGTH
from notifications.worker import current_execution

HEADER = "Callback-URL"
#: Visible ASCII without a comma, by which servers join repeated headers.
_ONE_URL = re.compile(rf"[\x21-\x2b\x2d-\x7e]{{1,{MAX_URL_LENGTH}}}")


@own_task(takes_context=True, executor=Job.Executor.SENDER)
@policy(title="Callback: {event[type]}", concurrency_key="callback:{event[host]}", **POLICY)
async def call(context: Any, event: dict[str, Any]) -> dict[str, Any]:
    """Call the URL of the job that has ended, and return the status of the answer."""
    from notifications.outbound import Forbidden  # with aiohttp, in processes that send only

    execution = current_execution()
    assert execution is not None
    job, ended = execution.job, UUID(event["job"])
    url = await app_sync_to_async(url_of)(ended)
    if not url:
        return {"status": None}  # the job is deleted
    try:
        check_callback_url(url)
    except Forbidden as exc:
        raise WebhookNotSent(f"{urlsplit(url).hostname} is not called: {exc}.") from exc
    if job.fence > 1 and (status := await app_sync_to_async(find_success)(job)) is not None:
        return {"status": status}
    started_at = times.now()
    headers = {ID_HEADER: str(job.id), TIMESTAMP_HEADER: str(int(started_at.timestamp()))}
    attempt = WebhookAttempt(endpoint=ended, job=job.id, event=event["type"], started_at=started_at)
    text = encode_json(make_body(event))
    return await make_attempt(job, attempt, url, headers, text, record=_record)


def _record(attempt: WebhookAttempt, answer: EndpointResponse, is_last: bool) -> None:
    retrying_atomic(lambda: insert_attempt(attempt))


def make_body(event: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent: the job by its id and URL, which is a path where ``SITE_URL`` is not set."""
    path = job_path(UUID(event["job"]), "api-job")
    job = {
        "id": event["job"],
        "state": event["type"].partition(".")[2],
        "url": absolute(path) if settings.SITE_URL else path,
    }
    return {"type": event["type"], "id": event["id"], "at": event["at"], "job": job}


def accept_callback_url(request: Any) -> Callable[[Job, bool], dict[str, str]] | None:
    """Return what stores the URL that a request has sent, None if there is none. See ``Extension.accept()``.

    Raises Problem 400 for what is not one URL, and 422 for one that is not allowed.
    """
    url = _read_callback_url(request)
    return None if url is None else partial(_take_url, url)


def _take_url(url: str, job: Job, is_new: bool) -> dict[str, str]:
    """Return the header of the response; none if the job had ended before, or is one of a request with another URL."""
    if is_new:
        store_url(url, job)
    return {HEADER: url} if url_of(job.id) == url else {}


def _read_callback_url(request: Any) -> str | None:
    value = request.headers.get(HEADER)
    if value is None:
        return None
    value = value.strip(" \t")  # not part of a header's value, but some servers leave them
    if not _ONE_URL.fullmatch(value):
        raise Problem(
            400,
            f"{HEADER} must be one URL of at most {MAX_URL_LENGTH} visible ASCII characters. Write a comma in it as "
            "%2C.",
            field=HEADER,
        )
    if load_handlers().callback is None:
        raise _refused(
            "this site calls no URLs. Send the request without it, and request the job's URL instead"
        )
    from notifications.outbound import Forbidden  # with aiohttp, in processes that need it only

    try:
        check_callback_url(value)
    except Forbidden as exc:
        raise _refused(str(exc)) from exc
    return str(value)


def _refused(reason: str) -> Problem:
    return Problem(422, f"{HEADER} is refused: {reason}.", field=HEADER)


def check_callback_url(url: str) -> None:
    """Raise ``Forbidden`` for a URL that is not of one of ``CALLBACK_ORIGINS``, or that may not be called."""
    from notifications.outbound import Forbidden, parse_target

    target = parse_target(url)
    if target.origin not in {parse_target(origin).origin for origin in settings.CALLBACK_ORIGINS}:
        raise Forbidden(gettext("its scheme, host and port are not among those that this site allows"))
    target.check()


def store_url(url: str, job: Job) -> None:
    """Store the URL of a job that this transaction has enqueued, or found, unless it has one or has ended."""
    # Its end locks the row before it looks for a URL, so it either finds this one, or is found here.
    rows = lock_query(Job.objects.using(database()).filter(pk=job.pk), skip_locked=False)
    if rows.values_list("state", flat=True).first() in ACTIVE:
        JobCallback.objects.using(database()).bulk_create(
            [JobCallback(job=job.pk, url=url)], ignore_conflicts=True
        )


def url_of(job: UUID) -> str:
    """Return the URL that is called when a job ends, empty if there is none."""
    rows = JobCallback.objects.using(database()).filter(job=job)
    return rows.values_list("url", flat=True).first() or ""


def read_urls(jobs: Iterable[UUID]) -> dict[UUID, str]:
    """Return the URLs of those of these jobs that have one, whose rows are locked. No query where callbacks are off."""
    if load_handlers().callback is None:
        return {}
    rows = JobCallback.objects.using(database()).filter(job__in=list(jobs))
    return dict(rows.values_list("job", "url"))

"""Call the URL that a request has sent with its job, when the job ends.

The caller has no secret that could sign it, so it carries nothing that is worth one: which job has ended and how, and
where to request the job. The receiver requests it with its own credentials, and so also finds out what is true. It is
sent at least once, with the same ``webhook-id`` in each attempt, and tried again as webhooks are.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from asgiref.sync import sync_to_async

from notifications import paths, serializers, times
from notifications.conf import settings
from notifications.context import current_execution
from notifications.contrib.webhooks.callback_urls import check_callback_url, url_of
from notifications.contrib.webhooks.models import WebhookAttempt
from notifications.contrib.webhooks.sending import (
    GONE,
    POLICY,
    WebhookFailed,
    WebhookNotSent,
    find_success,
    pause_after,
    post,
)
from notifications.contrib.webhooks.signing import ID_HEADER, TIMESTAMP_HEADER
from notifications.db.transactions import database, retrying_atomic
from notifications.db.unavailable import retry_while_unavailable
from notifications.jobs.claiming.executors import SENDER
from notifications.jobs.declaring.own_tasks import own_task, sender_queue_name
from notifications.jobs.declaring.policies import policy
from notifications.paths import absolute


@own_task(queue_name=sender_queue_name, takes_context=True, executor=SENDER)
@policy(title="Callback: {event[type]}", concurrency_key="callback:{event[host]}", **POLICY)
async def call(context: Any, event: dict[str, Any]) -> dict[str, Any]:
    """Call the URL of the job that has ended, and return the status of the answer."""
    from notifications.outbound.guard import Forbidden  # with aiohttp, in processes that send only

    execution = current_execution()
    assert execution is not None
    job, ended = execution.job, UUID(event["job"])
    url = await sync_to_async(url_of)(ended)
    if not url:
        return {"status": None}  # the job is deleted
    try:
        check_callback_url(url)
    except Forbidden as exc:
        raise WebhookNotSent(f"{urlsplit(url).hostname} is not called: {exc}.") from exc
    if job.attempt > 1 and (status := await sync_to_async(find_success)(job)) is not None:
        return {"status": status}
    started_at, started = times.now(), monotonic()
    headers = {
        "Content-Type": "application/json",
        ID_HEADER: str(job.id),
        TIMESTAMP_HEADER: str(int(started_at.timestamp())),
    }
    answer = await post(url, headers, serializers.encode(make_body(event)).encode())
    attempt = WebhookAttempt(
        endpoint=ended,
        job=job.id,
        event=event["type"],
        started_at=started_at,
        milliseconds=round((monotonic() - started) * 1000),
        status=answer.status,
        error=answer.error,
    )
    # Written again if it is not known whether the first commit has reached the database.
    rows = WebhookAttempt.objects.using(database())
    insert = partial(rows.bulk_create, [attempt], ignore_conflicts=True)
    await asyncio.shield(sync_to_async(retry_while_unavailable)(lambda: retrying_atomic(insert)))
    if answer.is_success:
        return {"status": answer.status}
    if answer.status == GONE:
        raise WebhookNotSent(answer.text)
    left = job.max_attempts - job.attempt
    raise WebhookFailed(answer.text, max(answer.retry_after, pause_after(left)))


def make_body(event: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent: the job by its id and URL, which is a path where ``SITE_URL`` is not set."""
    path = paths.job_path("api-job", UUID(event["job"])) or ""
    job = {
        "id": event["job"],
        "state": event["type"].partition(".")[2],
        "url": absolute(path) if settings.SITE_URL else path,
    }
    return {"type": event["type"], "id": event["id"], "at": event["at"], "job": job}

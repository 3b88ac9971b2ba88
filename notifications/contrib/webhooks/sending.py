"""Send an event to an endpoint: the task whose jobs ``events.py`` makes, and what follows its attempts.

It is sent at least once: a process that is killed between the answer and the commit sends it again, with the same
``webhook-id``, which is that of the job.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from notifications import times
from notifications.api import notify, policy
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.contrib.webhooks.signing import MAX_OVERLAP, sign
from notifications.db import (
    app_sync_to_async,
    database,
    retry_while_unavailable,
    retrying_atomic,
)
from notifications.db.clock import is_in_force
from notifications.exceptions import JobError
from notifications.http import encode_json
from notifications.inbox import read_recipient
from notifications.jobs import own_task
from notifications.models import Job
from notifications.worker import current_execution

logger = logging.getLogger("notifications")

#: The event of ``send_test()``, which has one attempt and turns nothing off.
TEST_EVENT = "webhook.test"
#: Seconds of the pauses between the attempts for one event: a day in all. Each is changed by a random part of it, so
#: that events that failed together do not come back together.
PAUSES_SECONDS = (5, 60, 300, 1800, 2 * 3600, 5 * 3600, 8 * 3600, 8 * 3600)
JITTER = 0.2
#: Seconds for one attempt, from waiting for a slot of the host to the head of the answer.
DEADLINE_SECONDS = 10.0
#: Attempts at a time, over all workers, for one user, to one endpoint of the site, or for jobs without an owner to one
#: host that requests name, so that one that does not answer leaves room for the others.
MAX_CONCURRENT_ATTEMPTS = 8
#: An endpoint is turned off when an event has failed in its last attempt and none has reached it for so long. Its
#: events are tried for a day: then at least one day of them was lost, and a longer holiday than a weekend is over.
MAX_FAILING = timedelta(days=5)
GONE = 410
Reason: Any = WebhookEndpoint.OffReason


class WebhookFailed(JobError):
    """An attempt has failed; another one follows after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WebhookNotSent(JobError):
    """The event was not sent, and is not tried again. A retry of its job by hand sends it."""


class EndpointResponse(NamedTuple):
    """What became of an attempt.

    ``status``
        None if there was no answer. What else an answer says is not read.
    ``error``
        The name of the class of an outbound error, if there is no answer.
    ``retry_after``
        Seconds that the endpoint, or an open circuit, asks for.
    ``text``
        Names the host only: the path of the URL may be a secret.
    """

    status: int | None
    error: str
    retry_after: float
    text: str

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


#: Options of the policies of tasks that call receivers.
POLICY: dict[str, Any] = {
    "max_attempts": len(PAUSES_SECONDS) + 1,
    "timeout": 6 * DEADLINE_SECONDS,
    "retry_on": (WebhookFailed, TimeoutError),
    "concurrency": MAX_CONCURRENT_ATTEMPTS,
    "notify": False,
}


@own_task(takes_context=True, executor=Job.Executor.SENDER)
@policy(title="Webhook: {event[type]}", concurrency_key="webhook:{event[endpoint]}", **POLICY)
@sensitive_variables()
async def send(context: Any, event: dict[str, Any]) -> dict[str, Any]:
    """Send an event to its ``endpoint``, and return the status of the answer."""
    execution = current_execution()
    assert execution is not None
    job, body = execution.job, {name: value for name, value in event.items() if name != "endpoint"}
    id, type = UUID(event["endpoint"]), str(event["type"])
    started_at = times.now()
    endpoint = await app_sync_to_async(_read_endpoint)(id, is_test=type == TEST_EVENT)
    if endpoint is None:
        return {"status": None}  # deleted meanwhile
    if job.fence > 1 and (status := await app_sync_to_async(find_success)(job)) is not None:
        return {"status": status}
    text = encode_json(body)
    headers = sign(secrets_of(endpoint, started_at), str(job.id), started_at, text)
    attempt = WebhookAttempt(endpoint=id, job=job.id, event=type, started_at=started_at)
    return await make_attempt(job, attempt, endpoint.url, headers, text, record=_record)


async def make_attempt(
    job: Job,
    attempt: WebhookAttempt,
    url: str,
    headers: Mapping[str, str],
    text: str,
    *,
    record: Callable[[WebhookAttempt, EndpointResponse, bool], None],
) -> dict[str, Any]:
    """Send an event by POST, and return the result of the job. Raises ``WebhookFailed`` or ``WebhookNotSent``.

    ``record``
        Stores the attempt, given what became of it, and whether it was the last.
    """
    started = monotonic()
    answer = await post(url, {"Content-Type": "application/json", **headers}, text.encode())
    attempt.milliseconds = round((monotonic() - started) * 1000)
    attempt.status, attempt.error = answer.status, answer.error
    left = job.max_attempts - job.attempt
    # It is recorded also if the time of the attempt is over, and the next one finds it.
    await asyncio.shield(
        app_sync_to_async(retry_while_unavailable)(partial(record, attempt, answer, left <= 0))
    )
    if answer.is_success:
        return {"status": answer.status}
    if answer.status == GONE or attempt.event == TEST_EVENT:
        raise WebhookNotSent(answer.text)
    raise WebhookFailed(answer.text, max(answer.retry_after, pause_after(left)))


def secrets_of(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """Return the secrets that sign now: during a rotation the previous one too."""
    is_rotating = is_in_force(endpoint.previous_until, now, MAX_OVERLAP)
    return [endpoint.secret, *([endpoint.previous_secret] if is_rotating else [])]


def _read_endpoint(id: UUID, *, is_test: bool) -> WebhookEndpoint | None:
    """Return an endpoint, None if it was deleted. Raises ``WebhookNotSent`` for one that gets nothing now."""
    endpoint = WebhookEndpoint.objects.using(database()).filter(id=id).first()
    if endpoint is None:
        return None
    if endpoint.off_at and not is_test:
        raise WebhookNotSent("The webhook is turned off.")
    if endpoint.user_id is not None:
        owner = read_recipient(endpoint.user_id)
        if owner is None or not owner.is_active:
            raise WebhookNotSent("The owner of the webhook is not active.")
    return endpoint


def find_success(job: Job) -> int | None:
    """Return the status of an earlier attempt that succeeded, but whose end the job does not know.

    Not of one before a retry by hand, which is to send again.
    """
    rows = WebhookAttempt.objects.using(database()).filter(job=job.id, started_at__gte=job.queued_at)
    rows = rows.filter(status__gte=200, status__lt=300)
    return rows.values_list("status", flat=True).first()


async def post(url: str, headers: dict[str, str], body: bytes) -> EndpointResponse:
    """Send a POST through the guard; return what became of it. Raises nothing for what the receiver does."""
    from notifications import outbound  # with aiohttp, in processes that send only

    try:
        # Its body is not read: leaving the block closes the connection.
        async with outbound.stream(
            *("POST", url),
            data=body,
            headers=headers,
            deadline=DEADLINE_SECONDS,
            retries=0,
            follow_redirects=False,
            is_user_url=True,
        ) as response:
            if response.status < 300:
                return EndpointResponse(response.status, "", 0.0, "")
            try:
                response.raise_for_status()
            except outbound.BadStatus as exc:
                return EndpointResponse(response.status, "", exc.retry_after or 0.0, str(exc))
            return EndpointResponse(
                response.status, "", 0.0, "The answer is a redirect, which is not followed."
            )
    except outbound.OutboundError as exc:
        return EndpointResponse(None, type(exc).__name__, exc.retry_after or 0.0, str(exc))


def pause_after(left: int) -> float:
    """Return the seconds until the next attempt, with so many left. A retry by hand begins with the first pause."""
    number = min(max(len(PAUSES_SECONDS) - left, 0), len(PAUSES_SECONDS) - 1)
    return PAUSES_SECONDS[number] * random.uniform(1 - JITTER, 1 + JITTER)


def insert_attempt(attempt: WebhookAttempt) -> None:
    """Insert an attempt, also again if it is not known whether the first commit has reached the database."""
    WebhookAttempt.objects.using(database()).bulk_create([attempt], ignore_conflicts=True)


def _record(attempt: WebhookAttempt, answer: EndpointResponse, is_last: bool) -> None:
    """Store an attempt, and turn the endpoint off if it is gone, or has failed for long."""
    now = times.now()

    def write() -> None:
        insert_attempt(attempt)
        if attempt.event == TEST_EVENT:
            return
        rows = WebhookEndpoint.objects.using(database()).filter(id=attempt.endpoint, off_at__isnull=True)
        if answer.is_success:
            rows.filter(failing_since__isnull=False).update(failing_since=None)
            return
        if answer.status == GONE:
            turn_off(attempt.endpoint, Reason.GONE)
        elif is_last and rows.filter(failing_since__lte=now - MAX_FAILING).exists():
            turn_off(attempt.endpoint, Reason.FAILING)
        # Nothing was sent if the circuit was open, for which other attempts have failed.
        elif answer.error != "CircuitOpen":
            rows.filter(failing_since__isnull=True).update(failing_since=attempt.started_at)

    retrying_atomic(write)


def turn_off(id: UUID, reason: str) -> bool:
    """Turn an endpoint off, in a transaction; its owner is notified unless it was by hand. Return whether it was on."""
    rows = WebhookEndpoint.objects.using(database()).filter(id=id)
    if not rows.filter(off_at__isnull=True).update(off_at=times.now(), off_reason=reason):
        return False
    endpoint = rows.get()
    logger.warning("Webhook is turned off: %s, %s", endpoint.id, reason)
    if reason != Reason.BY_HAND and endpoint.user_id is not None:
        with translation.override(settings.LANGUAGE_CODE):
            title = _("The webhook %(name)s was turned off") % {"name": endpoint}
            body = _("%(reason)s Correct it, then turn it on again. It gets no events until then.")
            notify(
                endpoint.user_id,
                title[:200],
                body=body % {"reason": endpoint.get_off_reason_display()},
                level="error",
                category="webhook",
                key=f"webhook:{endpoint.id}",
            )
    return True

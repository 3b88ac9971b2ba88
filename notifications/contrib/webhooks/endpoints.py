"""Create and change the endpoints of webhooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

from notifications import jobs, times, validators
from notifications.conf import settings
from notifications.contrib.webhooks import sending
from notifications.contrib.webhooks.handlers import EVENTS, WEBHOOK_TASK, load_handlers
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.contrib.webhooks.sending import Reason
from notifications.contrib.webhooks.signing import MAX_OVERLAP, OVERLAP, new_secret
from notifications.db import (
    database,
    lock_name,
    lock_query,
    retrying_atomic,
    user_keys_of,
)
from notifications.exceptions import NotificationsError
from notifications.jobs.declaring.policies import sender_key
from notifications.models import Job, uuid7

#: Endpoints of one user, and those of the whole site: each event of a user is a job for each of them.
MAX_ENDPOINTS = 10
MAX_DESCRIPTION_LENGTH = 200
#: Failed events that are sent again by one call.
MAX_RESENT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookInfo:
    """An endpoint to which events are sent.

    ``owner``
        The primary key of the user whose events it gets; None: those of all users.
    ``events``
        Names of events.
    ``secret``
        What signs them, which is not part of its ``repr()``.
    ``off_at``, ``off_reason``
        When and why it was turned off: ``"by-hand"``, ``"gone"`` or ``"failing"``. None and empty: it is on.
    ``failing_since``
        When the first attempt has failed since one has succeeded; None if the last one has.
    """

    id: UUID
    url: str
    owner: Any
    events: tuple[str, ...]
    description: str
    secret: str = field(repr=False)
    off_at: datetime | None
    off_reason: str
    failing_since: datetime | None
    created_at: datetime


class TooManyWebhooks(NotificationsError, ValueError):
    """The owner has as many webhooks as one may have."""


@sensitive_variables()
def create(
    url: str, *, events: Iterable[str] = EVENTS, owner: Any = None, description: str = ""
) -> WebhookInfo:
    """Create an endpoint, which gets the events that are recorded from now on.

    ``url``
        Where to POST them: an address that ``notifications.outbound`` may call, with https unless ``OUTBOUND_ALLOW``
        has its host and port. At most 1,000 characters.
    ``events``
        Names of events: ``"job.succeeded"``, ``"job.failed"``, ``"job.cancelled"``, ``"job.waiting"``,
        ``"notification.created"``, ``"notification.answered"``.
    ``owner``
        The user, or primary key, whose events it gets. None: those of all users, and of jobs without an owner.
    ``description``
        What it is for, in at most 200 characters.

    Raises ValueError or TypeError, also if there are 10 of this owner; ``ImproperlyConfigured`` if
    ``NOTIFICATIONS["WEBHOOKS"]`` is off, or no backend in ``TASKS`` stores jobs.
    """
    if reason := reason_of_off():
        raise ImproperlyConfigured(reason)
    row = WebhookEndpoint(
        user_id=None if owner is None else user_keys_of(owner)[0],
        url=check_url(url),
        description=check_description(description),
        events=join_events(events),
        secret=new_secret(),
        created_at=times.now(),
    )

    def insert() -> None:
        lock_name("webhooks", row.user_id)
        if not has_room(row.user_id):
            raise TooManyWebhooks(
                f"There are {MAX_ENDPOINTS} webhooks of this owner already. Delete one first."
            )
        row.save(using=database(), force_insert=True)

    retrying_atomic(insert)
    return _info(row)


def endpoints_of(owner: Any) -> list[WebhookInfo]:
    """Return the endpoints of a user or primary key, those of the whole site for None, the oldest first."""
    key = None if owner is None else user_keys_of(owner)[0]
    return [_info(row) for row in _rows().filter(user=key).order_by("id")]


@sensitive_variables()
def update(
    id: UUID,
    *,
    url: str | None = None,
    events: Iterable[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> WebhookInfo:
    """Change the values that are not None of an endpoint, as in ``create()``, and return it.

    ``enabled``
        True turns it on if it is off, for the events from now on. False turns it off, as ``turn_off()`` does.

    Raises ValueError or TypeError, or ``ObjectDoesNotExist``.
    """
    values: dict[str, Any] = {}
    if url is not None:
        values["url"] = check_url(url)
    if events is not None:
        values["events"] = join_events(events)
    if description is not None:
        values["description"] = check_description(description)

    def write() -> WebhookInfo:
        if values:
            _rows().filter(id=id).update(**values)
        if enabled:
            is_off = _rows().filter(id=id, off_at__isnull=False)
            is_off.update(off_at=None, off_reason="", failing_since=None)
        if enabled is False:
            sending.turn_off(id, Reason.BY_HAND)
        return _info(_rows().get(id=id))

    return retrying_atomic(write)


@sensitive_variables()
def rotate_secret(id: UUID, *, overlap: timedelta = OVERLAP) -> str:
    """Replace the secret of an endpoint, and return the new one.

    ``overlap``
        How long the previous secret signs too, so that the receiver can be changed meanwhile: from none, if it has
        become known, to 30 days.

    Raises ValueError, or ``ObjectDoesNotExist``.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise ValueError(f"overlap is {overlap}. It must be from 0 to {MAX_OVERLAP.days} days.")
    secret = new_secret()

    def write() -> None:
        row = lock_query(_rows().filter(id=id), skip_locked=False).get()
        previous = {"previous_secret": row.secret, "previous_until": times.now() + overlap}
        if not overlap:
            previous = {"previous_secret": "", "previous_until": None}
        _rows().filter(id=id).update(secret=secret, **previous)

    retrying_atomic(write)
    return secret


def turn_on(id: UUID) -> None:
    """Turn an endpoint on, for the events from now on. Raises ``ObjectDoesNotExist``."""
    update(id, enabled=True)


def turn_off(id: UUID) -> None:
    """Turn an endpoint off. Events that wait to be sent to it fail, and can be sent again by hand when it is on."""
    update(id, enabled=False)


def delete(id: UUID) -> None:
    """Delete an endpoint and its log of attempts. Nothing is sent to it any more."""

    def write() -> None:
        WebhookAttempt.objects.using(database()).filter(endpoint=id).delete()
        _rows().filter(id=id).delete()

    retrying_atomic(write)


def send_test(id: UUID, *, requester: Any = None) -> UUID:
    """Enqueue a job that sends the event ``webhook.test``, also to an endpoint that is off. Return the job's id.

    It has one attempt.

    ``requester``
        The user, or primary key, who owns the job and is not notified of it. None: the job has no owner.

    Raises ``ObjectDoesNotExist``, or ``TooManyJobs`` of the requester.
    """
    return UUID(enqueue_test(id, requester=requester).id)


def enqueue_test(id: UUID, *, requester: Any) -> Any:
    """Enqueue the job of ``send_test()``, and return what ``enqueue()`` does."""
    row = _rows().get(id=id)
    event = {
        "endpoint": str(id),
        "type": sending.TEST_EVENT,
        "id": str(uuid7()),
        "at": times.format_time(times.now()),
        "user": row.user_id if row.user_id is None or isinstance(row.user_id, int) else str(row.user_id),
        "job": None,
        "notification": None,
    }
    key = None if row.user_id is None else sender_key(row.user_id)
    return sending.send.using(owner=requester, concurrency_key=key).enqueue(event)


def resend_failed(id: UUID) -> int:
    """Send the events again that have failed in all attempts, at most the last 100. Return how many."""
    failed = _jobs_of(id).filter(state=Job.State.FAILED)
    ids = failed.order_by("-finished_at").values_list("id", flat=True)[:MAX_RESENT]
    return len(jobs.retry(list(ids)))


def resend(id: UUID, message: UUID) -> bool:
    """Send an event again that has failed in all attempts. Return whether it had.

    ``message``
        Its ``webhook-id``.

    Raises ``ObjectDoesNotExist`` if it was not sent to this endpoint, or is deleted.
    """
    job = _jobs_of(id).get(pk=message)
    return bool(job.can_retry and jobs.retry([job.pk]))


def check_url(url: Any) -> str:
    """Return a URL to which events may be sent. Raises ValueError or TypeError."""
    # With aiohttp, which processes without outbound calls do not load.
    from notifications.outbound import Forbidden, parse_target

    url = validators.text("url", url, validators.MAX_URL_LENGTH, required=True)
    remedy = "Use a URL on the public internet that begins with https://."
    try:
        target = parse_target(url)
        if target.check():
            return str(url)
    except Forbidden as exc:
        raise ValueError(f"url is refused: {exc}. {remedy}") from exc
    if target.url.scheme != "https":
        raise ValueError(f"url is refused: it does not begin with https://. {remedy}")
    return str(url)


def join_events(events: Iterable[str]) -> str:
    """Return names of events as they are stored. Raises ValueError."""
    names = [events] if isinstance(events, str) else list(events)
    if not names or not set(names) <= set(EVENTS):
        raise ValueError(f"events is {names!r}. It must have some of: {', '.join(EVENTS)}.")
    return " ".join(event for event in EVENTS if event in names)


def check_description(value: Any) -> str:
    """Return a description. Raises ValueError or TypeError."""
    return validators.text("description", value, MAX_DESCRIPTION_LENGTH)


def reason_of_off() -> str:
    """Return why no webhooks are sent in this project, and the remedy; empty if they are."""
    if not settings.WEBHOOKS:
        return "Webhooks are off. Set NOTIFICATIONS['WEBHOOKS'] to True."
    if load_handlers().webhook is None:
        return (
            "Webhooks are jobs, and the default backend in TASKS stores none. Its BACKEND must be "
            "notifications.jobs.backend.JobBackend."
        )
    return ""


def has_room(user: Any) -> bool:
    """Return whether a user (key), or the site, may have another endpoint."""
    return bool(_rows().filter(user=user).count() < MAX_ENDPOINTS)


def _rows() -> Any:
    return WebhookEndpoint.objects.using(database())


def _jobs_of(id: UUID) -> Any:
    # The argument is an event, which begins with its endpoint.
    return Job.objects.using(database()).filter(
        task_path=WEBHOOK_TASK, args__startswith=f'[{{"endpoint":"{id}"'
    )


@sensitive_variables()
def _info(row: WebhookEndpoint) -> WebhookInfo:
    return WebhookInfo(
        id=row.id,
        url=row.url,
        owner=row.user_id,
        events=tuple(row.events.split()),
        description=row.description,
        secret=row.secret,
        off_at=row.off_at,
        off_reason=row.off_reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
    )

"""The API of webhooks: users create, change and test their own, and read the log of attempts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_variables

from notifications import times
from notifications.api import accepted
from notifications.contrib.webhooks import endpoints
from notifications.contrib.webhooks.endpoints import (
    check_description,
    check_url,
    join_events,
    reason_of_off,
)
from notifications.contrib.webhooks.models import WebhookAttempt
from notifications.contrib.webhooks.signing import MAX_OVERLAP, OVERLAP
from notifications.db import database
from notifications.exceptions import TooManyJobs
from notifications.http import (
    Problem,
    api_view,
    json_response,
    paginate,
    parse_integer,
    parse_json_object,
    prevent_caching,
)
from notifications.jobs.limits import retry_within_rate
from notifications.models import parse_id

T = TypeVar("T")


@api_view("GET, POST")
@sensitive_variables()
def webhook_list(request: HttpRequest) -> HttpResponse:
    """Return the webhooks of the user, or create one: 201, with its secret."""
    _require_on()
    user = request.user.pk
    if request.method != "POST":
        return json_response({"items": [_item(row) for row in endpoints.endpoints_of(user)]})
    values = _parse(parse_json_object(request))
    if "url" not in values:
        raise Problem(422, "url is missing. Send the URL that receives the events.", field="url")
    try:
        created = endpoints.create(owner=user, **values)
    except endpoints.TooManyWebhooks as exc:
        raise Problem(409, str(exc)) from exc
    return json_response({**_item(created), "secret": created.secret}, status=201)


@api_view("GET, POST, DELETE")
def webhook_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Return a webhook of the user, after changing the fields that the body of a POST has. DELETE deletes it."""
    row = _get(request.user.pk, id)
    if request.method == "DELETE":
        endpoints.delete(id)
        return prevent_caching(HttpResponse(status=204))
    if request.method == "POST":
        body = parse_json_object(request)
        enabled = body.get("enabled")
        if not isinstance(enabled, bool | None):
            raise Problem(422, "enabled must be true or false.", field="enabled")
        row = _call(endpoints.update, id, enabled=enabled, **_parse(body))
    return json_response(_item(row))


@api_view("POST")
@sensitive_variables()
def webhook_rotate(request: HttpRequest, id: UUID) -> HttpResponse:
    """Replace the secret of a webhook, and return the new one. The old one signs too for ``overlap`` seconds."""
    _get(request.user.pk, id)
    seconds = parse_json_object(request).get("overlap")
    overlap = OVERLAP
    if seconds is not None:
        maximum = int(MAX_OVERLAP.total_seconds())
        overlap = timedelta(seconds=parse_integer(seconds, "overlap", maximum=maximum))
    return json_response({"secret": _call(endpoints.rotate_secret, id, overlap=overlap)})


@api_view("POST")
def webhook_test(request: HttpRequest, id: UUID) -> HttpResponse:
    """Send the event ``webhook.test`` by a job of the user: 202 with the job."""
    user = request.user.pk
    _get(user, id)
    return accepted(request, lambda: _call(endpoints.enqueue_test, id, requester=user))


@api_view("POST")
def webhook_resend(request: HttpRequest, id: UUID) -> HttpResponse:
    """Send the event of ``message_id`` again: 202, or 409 unless it has failed in all attempts."""
    user = request.user.pk
    _get(user, id)
    message = parse_id(str(parse_json_object(request).get("message_id")))
    if message is None:
        raise Problem(422, "message_id must be an id. An id is a UUID.", field="message_id")
    try:
        was_failed = retry_within_rate(user, None, lambda: endpoints.resend(id, message))
    except TooManyJobs as exc:
        raise Problem(429, str(exc), headers={"Retry-After": str(exc.retry_after)}) from exc
    except ObjectDoesNotExist as exc:
        text = (
            "No such event was sent to this webhook, or it is deleted. GET attempts/ lists those that were."
        )
        raise Problem(404, text) from exc
    if not was_failed:
        raise Problem(409, "The event has not failed. It was received, or is tried again by itself.")
    return json_response({"message_id": str(message)}, status=202)


@api_view("GET")
def webhook_attempts(request: HttpRequest, id: UUID) -> HttpResponse:
    """Return a page of the log of a webhook, the newest attempt first."""
    _get(request.user.pk, id)
    attempts = WebhookAttempt.objects.using(database()).filter(endpoint=id)
    page = paginate(request, attempts, ("started_at", "id"))
    return json_response({"items": [_attempt_item(row) for row in page.rows], "next": page.next})


def _require_on() -> None:
    if reason := reason_of_off():
        raise Problem(404, reason)


def _get(user: Any, id: UUID) -> endpoints.WebhookInfo:
    """Return a webhook of a user (key). Raises Problem 404, also for those of other users and of the site."""
    _require_on()
    for row in endpoints.endpoints_of(user):
        if row.id == id:
            return row
    raise _not_found()


def _not_found() -> Problem:
    return Problem(404, "The webhook does not exist. GET webhooks/ lists yours.")


def _call(change: Callable[..., T], id: UUID, **values: Any) -> T:
    """Call a function with the id of a webhook. Raises Problem 404 if it was deleted meanwhile."""
    try:
        return change(id, **values)
    except ObjectDoesNotExist as exc:
        raise _not_found() from exc


def _parse(body: dict[str, Any]) -> dict[str, Any]:
    """Return the checked values of a body that are not null. Raises Problem 422."""
    checks = {"url": check_url, "events": _check_events, "description": check_description}
    values = {}
    for field, check in checks.items():
        if (value := body.get(field)) is not None:
            try:
                values[field] = check(value)
            except (ValueError, TypeError) as exc:
                raise Problem(422, str(exc), field=field) from exc
    return values


def _check_events(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(event, str) for event in value):
        raise ValueError("events must be a list of names of events.")
    return join_events(value).split()


def _item(row: endpoints.WebhookInfo) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "url": row.url,
        "events": row.events,
        "description": row.description,
        "enabled": row.off_at is None,
        "disabled_at": times.format_time(row.off_at),
        "disabled_reason": row.off_reason,
        "failing_since": times.format_time(row.failing_since),
        "created_at": times.format_time(row.created_at),
    }


def _attempt_item(row: WebhookAttempt) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "message_id": str(row.job),
        "event": row.event,
        "started_at": times.format_time(row.started_at),
        "milliseconds": row.milliseconds,
        "status": row.status,
        "error": row.error,
    }

"""The view that upstreams call, for whose call a job waits. It needs no sign-in: the URL is the permission."""

from __future__ import annotations

import json
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_variables

from notifications import validators
from notifications.contrib.webhooks.callback_storage import end_callback, find_callback, is_open
from notifications.contrib.webhooks.signing import verify_webhook
from notifications.exceptions import InvalidWebhook
from notifications.http import (
    Problem,
    exceptions_as_problems,
    read_body,
    signed_view,
)

MAX_BODY_BYTES = 65_536


@signed_view
@exceptions_as_problems
@sensitive_variables()
def callback(request: HttpRequest, id: UUID, token: str) -> HttpResponse:
    """Store the body for the job that waits for it, once: 204, then 410."""
    if request.method != "POST":
        raise Problem(405, "Send a POST request.", headers={"Allow": "POST"})
    found = find_callback(id, token)
    if found is None:
        raise Problem(404, "There is no such callback. Check the URL.")
    wait, secret = found
    if is_open(wait) and end_callback(wait, _read_value(request, secret)):
        return HttpResponse(status=204)
    raise Problem(410, "This callback was called already, has expired, or its job has ended.")


@sensitive_variables()
def _read_value(request: HttpRequest, secret: str) -> str:
    """Return the JSON of a body, of its text if it is not sent as JSON. Raises Problem 400 and 413."""
    body = read_body(request, MAX_BODY_BYTES)
    try:
        if secret:
            value = verify_webhook(request, secret, max_bytes=MAX_BODY_BYTES)
        elif not body:
            value = None
        else:
            value = body.decode()
            if request.content_type == "application/json" or (request.content_type or "").endswith("+json"):
                value = json.loads(value)
        return validators.json_text("The body", value, validators.MAX_RESULT_BYTES)
    except InvalidWebhook as exc:
        raise Problem(400, str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise Problem(400, "The body is not UTF-8. Send JSON or text, encoded as UTF-8.") from exc
    except json.JSONDecodeError as exc:
        raise Problem(400, "The body is not JSON. Correct it, or send it as text/plain.") from exc
    except (ValueError, RecursionError) as exc:
        reason = "The body is nested too deeply." if isinstance(exc, RecursionError) else str(exc)
        raise Problem(400, reason) from exc

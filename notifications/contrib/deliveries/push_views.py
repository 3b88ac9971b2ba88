"""The page of the devices that get push messages, its service worker, and what both request of the server.

They are no part of the API: only the scripts of this app use them.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings as django_settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.request import HttpHeaders
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.views.decorators.http import require_POST, require_safe

from notifications.conf import settings
from notifications.contrib.deliveries import devices, pushes, refusals, vapid
from notifications.http import (
    Problem,
    api_view,
    bind_to_user,
    describe_browser,
    exempt_from_project,
    is_not_modified,
    json_response,
    page_view,
    parse_json_object,
)
from notifications.inbox import read_numbered_position

WORKER_FILE = (
    Path(apps.get_app_config("notifications").path) / "static" / "notifications" / "bundle" / "push_worker.js"
)


@page_view
@require_safe
def devices_page(request: HttpRequest) -> HttpResponse:
    """List the devices of the user, each with a form that removes it."""
    if not settings.WEB_PUSH:
        raise Http404("NOTIFICATIONS['WEB_PUSH'] is empty.")
    return render(request, "notifications/devices_page.html", {"devices": read_devices(request.user.pk)})


def read_devices(user: Any) -> list[dict[str, Any]]:
    """Return the devices of a user (key) for ``notifications/devices.html``, the newest first.

    Each has a hash of its endpoint, by which a browser recognizes itself, and the name of its push service if that
    refuses messages, or will because the site has another key, which alone its user can do something about.
    """
    found = reversed(devices.of_user(user))
    key = pushes.read_public_key()
    return [
        {
            "row": row,
            "mark": sha256(row.endpoint.encode()).hexdigest(),
            "refusing": devices.service_of(row) if row.refused_status or is_outdated else "",
            "has_other_key": is_outdated or refusals.is_of_another_key(row.refused_reason),
        }
        for row in found
        for is_outdated in [devices.is_outdated(row, key)]
    ]


@page_view
@require_POST
def remove_device(request: HttpRequest, id: UUID) -> HttpResponse:
    """Remove a device of the user, and show the list. One that is removed already is no error."""
    devices.remove(request.user.pk, id)
    return HttpResponseRedirect(reverse("notifications:devices"), status=303)


@api_view("GET")
def state(request: HttpRequest) -> HttpResponse:
    """Return what the scripts need for their requests: the key of the site, a CSRF token, URLs, and the position."""
    _require_configured()
    user, worker = request.user.pk, reverse("notifications:push-worker")
    return json_response(
        {
            "public_key": vapid.public_key(vapid.private_key()),
            "csrf_header": HttpHeaders.parse_header_name(django_settings.CSRF_HEADER_NAME),
            "csrf_token": get_token(request),
            "position": read_numbered_position(user).seq,
            "links": {
                # For this user only: in a browser that another one signs in to, no worker speaks for that one.
                "worker": bind_to_user(worker, user),
                "subscribe": reverse("notifications:push-subscribe"),
                "read": reverse("notifications:api-notifications-read"),
            },
        }
    )


@api_view("POST")
def subscribe(request: HttpRequest) -> HttpResponse:
    """Store the subscription of a browser: ``toJSON()`` of it, and ``replaces``, its earlier endpoint if it changed.

    ``key`` is that of the site with which it was made. With ``confirms`` true it is not stored again after its removal.
    """
    _require_configured()
    body = parse_json_object(request)
    keys = body.get("keys")
    keys = keys if isinstance(keys, dict) else {}
    try:
        device = devices.register(
            request.user.pk,
            body.get("endpoint"),
            keys.get("p256dh"),
            keys.get("auth"),
            name=describe_browser(request.headers.get("User-Agent", "")),
            language=get_language() or "",
            key=body.get("key"),
            replaces=body.get("replaces"),
            confirms=body.get("confirms") is True,
        )
    except devices.WrongSubscription as exc:
        raise Problem(422, str(exc), field=exc.field) from exc
    except devices.TooManyDevices as exc:
        text = gettext("You have {count} devices. Remove one and try again.")
        raise Problem(409, text.format(count=devices.MAX_DEVICES)) from exc
    return json_response({"id": str(device.id), "name": device.name} if device else {})


@exempt_from_project
@require_safe
def worker(request: HttpRequest) -> HttpResponse:
    """Return the service worker. Its scope is this folder, so that a worker of the project keeps its own pages."""
    script, etag = _read_worker()
    if is_not_modified(etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(script, content_type="text/javascript; charset=utf-8")
    response["ETag"] = etag
    response["Cache-Control"] = "no-cache"
    return response


@cache
def _read_worker() -> tuple[bytes, str]:
    script = WORKER_FILE.read_bytes()
    return script, f'"{sha256(script).hexdigest()[:32]}"'


def _require_configured() -> None:
    if not settings.WEB_PUSH:
        raise Problem(404, "This site has no push.")

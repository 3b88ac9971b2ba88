"""``{% notifications %}``: the bell, the toasts and their script, once per page, for whoever is signed in."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from django import template
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError
from django.middleware.csrf import get_token
from django.templatetags.static import static
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.functional import LazyObject, empty
from django.utils.html import format_html

from notifications.http import csrf
from notifications.http.client_strings import strings
from notifications.realtime.auth import page_user
from notifications.streams import pages

register = template.Library()
logger = logging.getLogger("notifications")

#: Where the WebSocket is, below the script name.
SOCKET = "ws/notifications/"
STYLE = "notifications/notifications.css"
MODULES = (
    "client",
    "connection",
    "polling",
    "tabs",
    "requests",
    "jobs",
    "localization",
    "dom",
    "bell",
    "inbox",
    "toasts",
    "progress",
)
NO_JOB = "00000000-0000-0000-0000-000000000000"


@register.inclusion_tag("notifications/bell.html", takes_context=True)
def notifications(context: template.Context) -> dict[str, Any]:
    """Render bell, toasts and script, with the position of the user's stream; nothing if nobody is signed in.

    With a running event loop there is no query, and who the user is may not be known: then the client starts from a
    snapshot. Never raises for want of a user, of a database or of the app's URLs.
    """
    request = context.get("request")
    # Compared with None, never tested for truth: that would load a lazy user.
    user = context.get("user") if getattr(request, "user", None) is None else request.user
    waits = _in_event_loop()
    known = user is not None and not (waits and isinstance(user, LazyObject) and user._wrapped is empty)
    if known and not user.is_authenticated:
        return {}
    mark = page_user.mark(user.pk) if known else ""
    try:
        addresses = _addresses(f"?{page_user.PARAMETER}={mark}" if mark else "")
    except NoReverseMatch:
        logger.error('{% notifications %} needs path("notifications/", include("notifications.urls")).')
        return {}
    position = None
    if known:
        position = context.get("notifications_position") or (None if waits else _position(user.pk))
    return {
        "nonce": _nonce(context, request),
        "css": static(STYLE),
        "entry": static("notifications/notifications.js"),
        "preloads": (modules := {name: static(f"notifications/{name}.js") for name in MODULES}).values(),
        "modules": json.dumps(modules),
        "strings": json.dumps(strings(), ensure_ascii=False),
        "position": position,
        "browser_key": mark,
        "csrf_header": csrf.header(),
        "csrf_cookie": csrf.readable_cookie(),
        "csrf": _token(request, known),
        **addresses,
    }


@register.simple_tag(takes_context=True)
def notifications_style(context: template.Context) -> str:
    """Render the link to the app's style sheet, for the head of the app's own pages."""
    nonce = _nonce(context, context.get("request"))
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    return format_html('<link rel="stylesheet" href="{}"{}>', static(STYLE), attribute)


@register.simple_tag
def notifications_site() -> str:
    """Return where the project begins: ``/``, or its script name."""
    return get_script_prefix()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _addresses(query: str) -> dict[str, str]:
    return {
        "inbox": reverse("notifications:inbox"),
        "sync": reverse("notifications:api-sync") + query,
        "list": reverse("notifications:api-notifications") + query,
        "read": reverse("notifications:api-notifications-read") + query,
        "job": reverse("notifications:api-job", args=[NO_JOB]) + query,
        "socket": get_script_prefix() + SOCKET + query,
    }


def _position(user: Any) -> pages.StreamPosition | None:
    try:
        return pages.read_stream_position(user)
    except (DatabaseError, SynchronousOnlyOperation):
        logger.exception("{%% notifications %%} could not read where the stream of user %s is.", user)
        return None


def _nonce(context: template.Context, request: Any) -> str:
    """The nonce of the page's Content-Security-Policy: Django's from 6.0 on, or django-csp's. Reading it makes it."""
    for nonce in (
        context.get("csp_nonce"),
        getattr(request, "_csp_nonce", None),
        getattr(request, "csp_nonce", None),
    ):
        if nonce is not None:
            return str(nonce)
    return ""


def _token(request: Any, known: bool) -> str:
    # Django keeps a new one in a new session, if told to use sessions: not for whoever may be a passer-by.
    if request is None or (settings.CSRF_USE_SESSIONS and not known and "CSRF_COOKIE" not in request.META):
        return ""
    return get_token(request)

"""Requests that follow something of their user: long polls, and responses of Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext

from notifications.http.access import check_request
from notifications.http.authentication import make_check
from notifications.http.waiting_requests import (
    MAX_WAITING_REQUESTS,
    WaitSlot,
    release_connections,
    require_wait_slot,
)
from notifications.problems import DATABASE_RETRY_SECONDS, Problem, database_unavailable, prevent_caching
from notifications.realtime import close_reasons
from notifications.realtime.auth.sessions import authenticating_session_key
from notifications.realtime.hub import Hub, current_hub
from notifications.realtime.subscriber import Follower
from notifications.realtime.transports.poll import WaitingRequest

R = TypeVar("R", bound=WaitingRequest)


def read_follower(request: HttpRequest, media_type: str = "application/json") -> Follower:
    """Return who follows by a GET, whose response is of ``media_type``. Raises Problem as views of the API do."""
    check_request(request, "GET", media_type)
    return Follower(request.user.pk, authenticating_session_key(request), make_check(request))


async def long_poll(
    make_request: Callable[[Hub], R], seconds: float, *, slots: Any, max_slots: int = MAX_WAITING_REQUESTS
) -> R:
    """Make a request with the hub of this server, and return it when it has its ``result``, or after ``seconds``.

    ``slots``, ``max_slots``
        What the request is one of, such as the key of its user, and how many of these may wait in this process.

    Raises Problem: 429, 401 when the user is signed out meanwhile, 503 without a result when the server stops or has no
    database.
    """
    slot = require_wait_slot(slots, max_slots)
    try:
        await release_connections()
        waiting = make_request(current_hub())
        await waiting.wait(seconds)
    finally:
        slot.release()
    if waiting.bye is close_reasons.SIGNED_OUT:
        raise Problem(401, gettext("You have been signed out. Sign in and try again."))
    if waiting.result is None and waiting.bye is close_reasons.GOING_AWAY:
        headers = {"Retry-After": str(DATABASE_RETRY_SECONDS)}
        raise Problem(503, close_reasons.GOING_AWAY.detail, headers=headers)
    if waiting.result is None and waiting.bye is not None:
        raise database_unavailable()
    return waiting


def event_response(
    request: HttpRequest,
    make_stream: Callable[[Hub], AsyncGenerator[bytes]],
    *,
    slots: Any,
    max_slots: int = MAX_WAITING_REQUESTS,
) -> Any:
    """Return a response of Server-Sent Events, whose body is a stream. ``slots`` are those of ``long_poll()``.

    Raises Problem 429.
    """
    # GZipMiddleware would buffer events until it has a block of them.
    request.META.pop("HTTP_ACCEPT_ENCODING", None)
    slot = require_wait_slot(slots, max_slots)
    return set_event_headers(StreamingHttpResponse(_stream(make_stream, slot)))


async def _stream(
    make_stream: Callable[[Hub], AsyncGenerator[bytes]], slot: WaitSlot
) -> AsyncGenerator[bytes]:
    try:
        await release_connections()
        async with aclosing(make_stream(current_hub())) as events:
            async for event in events:
                yield event
    finally:
        slot.release()


def set_event_headers(response: HttpResponseBase) -> HttpResponseBase:
    """Set the headers of a response of Server-Sent Events."""
    response["Content-Type"] = "text/event-stream"
    response["X-Accel-Buffering"] = "no"  # otherwise nginx buffers the response
    return prevent_caching(response)

"""Views that follow a stream over HTTP, for clients without a WebSocket: ``sync/`` (polling) and ``events/`` (SSE)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext

from notifications.http.access import async_api_view, check_request, is_signed_in
from notifications.http.authentication import authenticate, make_check
from notifications.http.negotiation import if_none_match, is_not_modified, wait_seconds
from notifications.http.parsing import parse_query_integer, read_header
from notifications.http.waiting_requests import (
    MAX_WAITING_REQUESTS,
    WaitSlot,
    release_connections,
    require_wait_slot,
)
from notifications.problems import DATABASE_RETRY_SECONDS, Problem, database_unavailable, prevent_caching
from notifications.realtime import close_reasons, frames, reader
from notifications.realtime.auth.sessions import authenticating_session_key
from notifications.realtime.hub import Hub, current_hub
from notifications.realtime.subscriber import Follower
from notifications.realtime.transports.poll import Poll, WaitingRequest
from notifications.realtime.transports.sse import EventStream
from notifications.validators import MAX_INTEGER

R = TypeVar("R", bound=WaitingRequest)


class StreamRequest(NamedTuple):
    """A request to follow the stream of a user, whose client has everything up to ``epoch`` and ``seq``."""

    follower: Follower
    epoch: str | None
    seq: int | None


@async_api_view
async def sync(request: HttpRequest) -> HttpResponse:
    """Return the changes since ``epoch`` and ``seq`` as one sync frame without ``n``, or a snapshot without them.

    304 if ``If-None-Match`` names the current position. ``Prefer: wait=N`` delays the response until there is a change,
    at most N seconds. It is ignored under WSGI, where each waiting request would hold a thread.
    """
    seconds = wait_seconds(request)
    if seconds:
        catch_up = await _poll(request, await sync_to_async(_parse_sync_request)(request), seconds)
    else:
        catch_up = await sync_to_async(_read_catch_up)(request)
    if is_not_modified(catch_up.etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(frames.encode_unnumbered(catch_up.frame), content_type="application/json")
    response["ETag"] = catch_up.etag
    if seconds:
        response["Preference-Applied"] = f"wait={seconds}"
    return prevent_caching(response)


@async_api_view
async def events(request: HttpRequest) -> HttpResponseBase:
    """Stream the changes since ``Last-Event-ID``, or since ``epoch`` and ``seq``, as Server-Sent Events.

    204 for a client that is not signed in: only this status stops an EventSource from reconnecting.
    """
    stream_request = await sync_to_async(_parse_events_request)(request)
    if stream_request is None:
        return prevent_caching(HttpResponse(status=204))
    if not isinstance(request, ASGIRequest):
        raise Problem(
            501, "Server-Sent Events need an ASGI server. This is a WSGI server: poll sync/ instead."
        )
    if request.method == "HEAD":
        return set_event_headers(HttpResponse())
    follower, epoch, seq = stream_request
    return event_response(
        request, lambda hub: EventStream(hub, follower).stream(epoch, seq), slots=follower.user
    )


def _read_catch_up(request: HttpRequest) -> reader.SyncResponse:
    stream_request = _parse_sync_request(request)
    return reader.read_sync(stream_request.follower.user, stream_request.epoch, stream_request.seq)


def _parse_sync_request(request: HttpRequest) -> StreamRequest:
    follower = read_follower(request)
    return StreamRequest(follower, request.GET.get("epoch"), parse_query_integer(request, "seq"))


def _parse_events_request(request: HttpRequest) -> StreamRequest | None:
    authenticate(request)
    if request.method in ("GET", "HEAD") and not is_signed_in(request):
        return None
    follower = read_follower(request, "text/event-stream")
    epoch, _, seq = read_header(request, "Last-Event-ID").rpartition(":")
    if epoch and seq.isascii() and seq.isdigit() and len(seq) < 17 and int(seq) <= MAX_INTEGER:
        return StreamRequest(follower, epoch, int(seq))
    return StreamRequest(follower, request.GET.get("epoch"), parse_query_integer(request, "seq"))


async def _poll(request: HttpRequest, stream_request: StreamRequest, seconds: int) -> reader.SyncResponse:
    follower, position = stream_request.follower, (stream_request.epoch, stream_request.seq)
    tags = if_none_match(request)
    poll = await long_poll(lambda hub: Poll(hub, follower, position, tags), seconds, slots=follower.user)
    if poll.result is None:
        raise database_unavailable()
    return poll.result


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

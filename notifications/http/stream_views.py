"""Views that follow a stream over HTTP, for clients without a WebSocket: ``sync/`` (polling) and ``events/`` (SSE)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext

from notifications.http.access import async_api_view, check_request, is_signed_in
from notifications.http.authentication import authenticate, make_check
from notifications.http.negotiation import if_none_match, is_not_modified, wait_seconds
from notifications.http.parsing import parse_query_integer, read_header
from notifications.http.waiting_requests import WaitSlot, release_connections, require_wait_slot
from notifications.problems import DATABASE_RETRY_SECONDS, Problem, database_unavailable, prevent_caching
from notifications.realtime import close_reasons, frames, hub, reader
from notifications.realtime.auth.sessions import authenticating_session_key
from notifications.realtime.transports.poll import Poll
from notifications.realtime.transports.sse import EventStream
from notifications.validators import MAX_INTEGER


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """A request to follow the stream of ``user`` (key), whose client has everything up to ``epoch`` and ``seq``.

    ``is_accepted`` is as in ``EventStream``.
    """

    user: Any
    session: str | None
    is_accepted: Callable[[], bool] | None
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
    # GZipMiddleware would buffer events until it has a block of them.
    request.META.pop("HTTP_ACCEPT_ENCODING", None)
    slot = require_wait_slot(stream_request.user)
    return set_event_headers(StreamingHttpResponse(_stream_events(stream_request, slot)))


def _read_catch_up(request: HttpRequest) -> reader.SyncResponse:
    stream_request = _parse_sync_request(request)
    return reader.read_sync(stream_request.user, stream_request.epoch, stream_request.seq)


def _parse_sync_request(request: HttpRequest) -> StreamRequest:
    check_request(request, "GET")
    return _stream_request(request, request.GET.get("epoch"), parse_query_integer(request, "seq"))


def _parse_events_request(request: HttpRequest) -> StreamRequest | None:
    authenticate(request)
    if request.method in ("GET", "HEAD") and not is_signed_in(request):
        return None
    check_request(request, "GET", "text/event-stream")
    epoch, _, seq = read_header(request, "Last-Event-ID").rpartition(":")
    if epoch and seq.isascii() and seq.isdigit() and len(seq) < 17 and int(seq) <= MAX_INTEGER:
        return _stream_request(request, epoch, int(seq))
    return _stream_request(request, request.GET.get("epoch"), parse_query_integer(request, "seq"))


def _stream_request(request: HttpRequest, epoch: str | None, seq: int | None) -> StreamRequest:
    return StreamRequest(
        user=request.user.pk,
        session=authenticating_session_key(request),
        is_accepted=make_check(request),
        epoch=epoch,
        seq=seq,
    )


async def _poll(request: HttpRequest, stream_request: StreamRequest, seconds: int) -> reader.SyncResponse:
    slot = require_wait_slot(stream_request.user)
    try:
        await release_connections()
        poll = Poll(
            hub.current_hub(),
            stream_request.user,
            stream_request.session,
            (stream_request.epoch, stream_request.seq),
            if_none_match(request),
        )
        catch_up = await poll.wait_for_change(seconds)
    finally:
        slot.release()
    if poll.bye is close_reasons.SIGNED_OUT:
        raise Problem(401, gettext("You have been signed out. Sign in and try again."))
    if catch_up is None and poll.bye is close_reasons.GOING_AWAY:
        retry_after = str(DATABASE_RETRY_SECONDS)
        raise Problem(503, close_reasons.GOING_AWAY.detail, headers={"Retry-After": retry_after})
    if catch_up is None:
        raise database_unavailable()
    return catch_up


async def _stream_events(stream_request: StreamRequest, slot: WaitSlot) -> AsyncGenerator[bytes]:
    try:
        await release_connections()
        stream = EventStream(
            hub.current_hub(), stream_request.user, stream_request.session, stream_request.is_accepted
        )
        async with aclosing(stream.stream(stream_request.epoch, stream_request.seq)) as events:
            async for event in events:
                yield event
    finally:
        slot.release()


def set_event_headers(response: HttpResponseBase) -> HttpResponseBase:
    """Set the headers of a response of Server-Sent Events."""
    response["Content-Type"] = "text/event-stream"
    response["X-Accel-Buffering"] = "no"  # otherwise nginx buffers the response
    return prevent_caching(response)

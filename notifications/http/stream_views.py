"""Views that follow a stream over HTTP, for clients without a WebSocket: ``sync/`` (polling) and ``events/`` (SSE)."""

from __future__ import annotations

from typing import NamedTuple

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from notifications.http.access import async_api_view, is_signed_in
from notifications.http.authentication import authenticate
from notifications.http.following import event_response, long_poll, read_follower, set_event_headers
from notifications.http.negotiation import if_none_match, is_not_modified, wait_seconds
from notifications.http.parsing import parse_query_integer, read_header
from notifications.problems import Problem, database_unavailable, prevent_caching
from notifications.realtime import frames, reader
from notifications.realtime.subscriber import Follower
from notifications.realtime.transports.poll import Poll
from notifications.realtime.transports.sse import EventStream
from notifications.validators import MAX_INTEGER


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

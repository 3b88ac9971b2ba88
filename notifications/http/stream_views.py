"""Following a stream over HTTP, for clients without a WebSocket: ``sync/`` by asking, ``events/`` by listening."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from notifications.http.prefer import seconds_to_wait, wait_slot_or_refuse
from notifications.http.requests import aapi, admit, entity_tags, is_known, query_number, signed_in
from notifications.http.waiting import WaitSlot, release_connections
from notifications.problems import Problem, busy, private
from notifications.realtime import close_reasons, frames, hub, reader
from notifications.realtime.auth.sessions import session_of
from notifications.realtime.transports.poll import Poll
from notifications.realtime.transports.sse import EventStream
from notifications.request_limits import header
from notifications.validators import INTEGER


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRequest:
    """Who asks, by which session, and the position that they have."""

    user: Any
    session: str | None
    epoch: str | None
    seq: int | None


@aapi
async def sync(request: HttpRequest) -> HttpResponse:
    """Answer one sync frame, without ``n``: what followed ``epoch`` and ``seq``, or a snapshot without them.

    304 where ``If-None-Match`` names what is there already. With ``Prefer: wait=N`` it waits for something new, but not
    under WSGI, where each waiting request would hold a thread.
    """
    seconds = seconds_to_wait(request)
    if seconds:
        found = await _wait(request, await sync_to_async(_parse_sync_request)(request), seconds)
    else:
        found = await sync_to_async(_read_catch_up)(request)
    if is_known(found.etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(frames.unnumbered(found.frame), content_type="application/json")
    response["ETag"] = found.etag
    if seconds:
        response["Preference-Applied"] = f"wait={seconds}"
    return private(response)


@aapi
async def events(request: HttpRequest) -> HttpResponseBase:
    """Answer Server-Sent Events: what followed ``Last-Event-ID``, or ``epoch`` and ``seq``, and then what comes.

    204, which ends an EventSource for good, where nobody is signed in.
    """
    asked = await sync_to_async(_parse_events_request)(request)
    if asked is None:
        return private(HttpResponse(status=204))
    if not isinstance(request, ASGIRequest):
        raise Problem(501, "Events need an ASGI server, and this one is WSGI. Ask sync/ now and then.")
    if request.method == "HEAD":
        return _as_events(HttpResponse())
    # GZipMiddleware would hold events back until it has a block of them.
    request.META.pop("HTTP_ACCEPT_ENCODING", None)
    return _as_events(StreamingHttpResponse(_stream(asked, wait_slot_or_refuse(asked.user))))


def _read_catch_up(request: HttpRequest) -> reader.CatchUp:
    asked = _parse_sync_request(request)
    return reader.catch_up(asked.user, asked.epoch, asked.seq)


def _parse_sync_request(request: HttpRequest) -> StreamRequest:
    admit(request, "GET")
    return _stream_request(request, request.GET.get("epoch"), query_number(request, "seq"))


def _parse_events_request(request: HttpRequest) -> StreamRequest | None:
    if request.method in ("GET", "HEAD") and not signed_in(request):
        return None
    admit(request, "GET", "text/event-stream")
    epoch, _, seq = header(request, "Last-Event-ID").rpartition(":")
    if epoch and seq.isascii() and seq.isdigit() and len(seq) < 17 and int(seq) <= INTEGER:
        return _stream_request(request, epoch, int(seq))
    return _stream_request(request, request.GET.get("epoch"), query_number(request, "seq"))


def _stream_request(request: HttpRequest, epoch: str | None, seq: int | None) -> StreamRequest:
    return StreamRequest(user=request.user.pk, session=session_of(request), epoch=epoch, seq=seq)


async def _wait(request: HttpRequest, asked: StreamRequest, seconds: int) -> reader.CatchUp:
    seat = wait_slot_or_refuse(asked.user)
    try:
        await release_connections()
        poll = Poll(
            hub.current_hub(), asked.user, asked.session, (asked.epoch, asked.seq), entity_tags(request)
        )
        found = await poll.answer(seconds)
    finally:
        seat.leave()
    if poll.bye is close_reasons.SIGNED_OUT:
        raise Problem(401, "Nobody is signed in any more. Sign in and try again.")
    if found is None and poll.bye is close_reasons.GOING_AWAY:
        raise Problem(503, close_reasons.GOING_AWAY.detail, headers={"Retry-After": "2"})
    if found is None:
        raise busy()
    return found


async def _stream(asked: StreamRequest, seat: WaitSlot) -> AsyncGenerator[bytes]:
    try:
        await release_connections()
        stream = EventStream(hub.current_hub(), asked.user, asked.session)
        async with aclosing(stream.events(asked.epoch, asked.seq)) as events:
            async for event in events:
                yield event
    finally:
        seat.leave()


def _as_events(response: HttpResponseBase) -> HttpResponseBase:
    response["Content-Type"] = "text/event-stream"
    response["X-Accel-Buffering"] = "no"  # nginx passes on what it gets
    return private(response)

"""The output of a job over HTTP: the read half of the Durable Streams protocol.

https://github.com/durable-streams/durable-streams/blob/main/PROTOCOL.md, sections 5.4 to 5.7
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from notifications.contrib.output.readers import OutputEvents, OutputPoll, format_offset, next_cursor
from notifications.contrib.output.reading import OutputPart, read_part
from notifications.db import database
from notifications.exceptions import JobDoesNotExist
from notifications.extension import hooks
from notifications.http import Problem, async_api_view, is_not_modified, prevent_caching
from notifications.models import Job
from notifications.realtime import Follower, event_response, long_poll, read_follower

LONG_POLL, SSE = "long-poll", "sse"
#: Seconds that a long poll waits.
LONG_POLL_SECONDS = 20
#: Readers of outputs that one user has in one process, besides requests that wait for something else.
MAX_READERS = 20
CONTENT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputRequest:
    """A request for the output of ``job``, with the part that was there. ``live`` is "" for what there is.

    ``is_at_end``: it asks for the end, which no entity tag names.
    """

    follower: Follower
    job: UUID
    live: str
    cursor: str
    part: OutputPart
    is_at_end: bool


@async_api_view
async def job_output(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Return the output of a job of the user, or of one that waits for the user, from ``offset`` on, as text.

    ``live=long-poll`` waits for what follows, ``live=sse`` streams it as Server-Sent Events. HEAD returns its end.
    """
    asked = await sync_to_async(_parse)(request, id)
    if asked.live == SSE:
        response = event_response(
            request, partial(_stream, asked), slots=("output", asked.follower.user), max_slots=MAX_READERS
        )
        response["Cache-Control"] = "no-cache, no-store"  # The protocol requires the first one.
        return _set_headers(response, asked.part)
    part = asked.part
    if asked.live == LONG_POLL and part.is_last and not part.data and not part.is_closed:
        part = await _poll(asked)
    return _part_response(request, asked, part)


def _parse(request: HttpRequest, id: UUID) -> OutputRequest:
    live = request.GET.get("live") if request.method != "HEAD" else None
    follower = read_follower(request, "text/event-stream" if live == SSE else "text/plain")
    if live not in (None, LONG_POLL, SSE):
        raise Problem(400, f"live must be {LONG_POLL} or {SSE}.", field="live")
    if live and not isinstance(request, ASGIRequest):
        raise Problem(501, "This is a WSGI server, which cannot wait. Read without live, again and again.")
    text = (request.headers.get("Last-Event-ID") if live == SSE else "") or request.GET.get("offset")
    if live and text is None:
        raise Problem(400, "offset is missing. It must be -1, now, or the one that the last response gave.")
    at_end = text == "now" or request.method == "HEAD"
    try:
        offset = None if at_end else _parse_offset(text)
        part = _read_part(request, id, offset, live)
    except ValueError as exc:
        raise Problem(400, f"{exc} Begin with -1.", field="offset") from None
    except JobDoesNotExist:
        raise _no_such_job() from None
    return OutputRequest(
        follower=follower,
        job=id,
        live=live or "",
        cursor=request.GET.get("cursor", ""),
        part=part,
        is_at_end=at_end,
    )


def _read_part(request: HttpRequest, job: UUID, offset: int | None, live: str | None) -> OutputPart:
    """Return a part of the output of a job of the user, or, unless it is read live, of one that waits for the user.

    Such a job, which asks the user a question, writes nothing meanwhile, so nobody follows it. Raises as
    ``read_part()`` does.
    """
    try:
        return read_part(request.user.pk, job, offset)
    except JobDoesNotExist:
        if live or not any(hook(job, request.user) for hook in hooks.may_follow):
            raise
    owner = Job.objects.using(database()).filter(pk=job).values_list("user", flat=True).first()
    return read_part(owner, job, offset)


def _parse_offset(text: str | None) -> int:
    if text is None or text == "-1":
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise ValueError("offset is none that a response gave.")
    return int(text)


async def _poll(asked: OutputRequest) -> OutputPart:
    poll = await long_poll(
        lambda hub: OutputPoll(hub, asked.follower, asked.job, asked.part.start),
        LONG_POLL_SECONDS,
        slots=("output", asked.follower.user),
        max_slots=MAX_READERS,
    )
    if poll.result is None and poll.finished.done():
        raise _no_such_job()
    return poll.result or asked.part


def _stream(asked: OutputRequest, hub: Any) -> AsyncGenerator[bytes]:
    events = OutputEvents(hub, asked.follower, asked.job, asked.part.start, asked.cursor)
    events.take(asked.part)
    return events.stream_output()


def _part_response(request: HttpRequest, asked: OutputRequest, part: OutputPart) -> HttpResponse:
    etag = f'"{asked.job}:{part.start}:{part.end}{":closed" if part.is_closed else ""}"'
    if asked.live and not part.data:
        response = HttpResponse(status=204)
    elif not asked.live and not asked.is_at_end and is_not_modified(etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(part.data, content_type=CONTENT_TYPE)
    if not asked.is_at_end:
        response["ETag"] = etag
    if asked.live:
        response["Stream-Cursor"] = next_cursor(asked.cursor)
    return _set_headers(prevent_caching(response), part)


def _set_headers(response: Any, part: OutputPart) -> Any:
    response["X-Content-Type-Options"] = "nosniff"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    if response.streaming:
        return response
    response["Stream-Next-Offset"] = format_offset(part.end)
    if part.is_last:
        response["Stream-Up-To-Date"] = "true"
    if part.is_closed:
        response["Stream-Closed"] = "true"
    return response


def _no_such_job() -> Problem:
    return Problem(404, "The job does not exist. GET jobs/ lists yours.")

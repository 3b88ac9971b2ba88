"""The output of a job over HTTP: the read half of the Durable Streams protocol.

https://github.com/durable-streams/durable-streams/blob/main/PROTOCOL.md, sections 5.4 to 5.7
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from notifications.contrib.output.reading import OutputPart, format_offset, read_part, read_parts
from notifications.db import database
from notifications.exceptions import JobDoesNotExist
from notifications.extension import hooks
from notifications.http import Feed, Problem, api_view, is_not_modified, prevent_caching
from notifications.models import Job

LONG_POLL, SSE = "long-poll", "sse"
#: Seconds that a long poll waits.
LONG_POLL_SECONDS = 20
#: A cursor of the protocol counts intervals of this length from this time: 2024-10-09 UTC.
CURSOR_SECONDS, CURSOR_EPOCH = 20, 1_728_432_000
#: Intervals that are added to the cursor of a client that has the current one.
MAX_CURSOR_JITTER = 180
CONTENT_TYPE = "text/plain; charset=utf-8"


class OutputFeed(Feed):
    """A request for the output of a job: ``key``.

    ``live``
        How it is followed, "" for what there is.
    ``cursor``
        That of the client.
    """

    def __init__(self, request: HttpRequest, job: UUID) -> None:
        live = request.GET.get("live") if request.method != "HEAD" else None
        super().__init__(request, job, "text/event-stream" if live == SSE else "text/plain")
        if live not in (None, LONG_POLL, SSE):
            raise Problem(400, f"live must be {LONG_POLL} or {SSE}.", field="live")
        if live:
            self.check_can_wait()
        self.live, self.cursor = live or "", request.GET.get("cursor", "")

    def read(self, positions: Iterable[int]) -> Mapping[int, OutputPart]:
        return read_parts(self.user, self.key, positions)

    def event(self, part: OutputPart) -> bytes:
        """Return the event of the text, and a control event after it."""
        self.cursor = next_cursor(self.cursor)
        offset = format_offset(part.end)
        control: dict[str, Any] = {"streamNextOffset": offset}
        control |= {"streamClosed": True} if part.is_closed else {"streamCursor": self.cursor}
        if part.is_last:
            control["upToDate"] = True
        # The id is for the EventSource of browsers, which knows no offsets.
        event = f"event: control\ndata:{json.dumps(control)}\nid: {offset}\n\n".encode()
        # In one message with the data, so that both arrive together.
        return part.event + event if part.data else event


@api_view()
async def job_output(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Return the output of a job of the user, or of one that waits for the user, from ``offset`` on, as text.

    ``live=long-poll`` waits for what follows, ``live=sse`` streams it as Server-Sent Events. HEAD returns its end.
    """
    # It may ask for the end, which no entity tag names.
    feed, part, is_at_end = await sync_to_async(_open)(request, id)
    if feed.live == SSE:
        response = feed.stream(part)
        response["Cache-Control"] = "no-cache, no-store"  # The protocol requires the first one.
        return _set_headers(response, part)
    if feed.live == LONG_POLL and part.is_last and not part.data and not part.is_closed:
        try:
            part = await feed.wait(part.start, LONG_POLL_SECONDS) or part
        except ObjectDoesNotExist:
            raise _no_such_job() from None
    return _part_response(request, feed, part, is_at_end=is_at_end)


def _open(request: HttpRequest, id: UUID) -> tuple[OutputFeed, OutputPart, bool]:
    """Return the request with the part that is there, and whether it asks for the end."""
    feed = OutputFeed(request, id)
    text = (request.headers.get("Last-Event-ID") if feed.live == SSE else "") or request.GET.get("offset")
    if feed.live and text is None:
        raise Problem(400, "offset is missing. It must be -1, now, or the one that the last response gave.")
    is_at_end = text == "now" or request.method == "HEAD"
    try:
        offset = None if is_at_end else _parse_offset(text)
        return feed, _read_part(request, id, offset, feed.live), is_at_end
    except ValueError as exc:
        raise Problem(400, f"{exc} Begin with -1.", field="offset") from None
    except JobDoesNotExist:
        raise _no_such_job() from None


def _read_part(request: HttpRequest, job: UUID, offset: int | None, live: str) -> OutputPart:
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


def next_cursor(cursor: str) -> str:
    """Return the cursor of a response to a client that has this one, "" if it has none. It is always a later one."""
    now = int(time.time() - CURSOR_EPOCH) // CURSOR_SECONDS
    last = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 17 else -1
    return str(now if last < now else last + random.randint(1, MAX_CURSOR_JITTER))


def _part_response(
    request: HttpRequest, feed: OutputFeed, part: OutputPart, *, is_at_end: bool
) -> HttpResponse:
    etag = f'"{feed.key}:{part.start}:{part.end}{":closed" if part.is_closed else ""}"'
    if feed.live and not part.data:
        response = HttpResponse(status=204)
    elif not feed.live and not is_at_end and is_not_modified(etag, request):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(part.data, content_type=CONTENT_TYPE)
    if not is_at_end:
        response["ETag"] = etag
    if feed.live:
        response["Stream-Cursor"] = next_cursor(feed.cursor)
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

"""Limits that a request is held to before it is read, so that one client cannot make the others wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse

from notifications.conf import settings
from notifications.problems import Problem

#: Longer headers are not parsed: several parsers, also Python's, take quadratic time for hostile ones.
MAX_HEADER_BYTES = 2048
#: Seconds for a client to read why it was refused. A connection closed with unread data is reset, and the answer lost.
LINGER_SECONDS = 5.0


def header(request: HttpRequest, name: str, default: str = "") -> str:
    """Return a header of the request, ``default`` where it is absent or longer than 2 kB."""
    value: str = request.headers.get(name, default)
    return value if len(value) <= MAX_HEADER_BYTES else default


def refusal(headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Return the problem that answers a request with these headers (names in lower case); None if there is none.

    400: a Content-Type over 2 kB, which Django answers with 500. 413: a body over ``NOTIFICATIONS["MAX_BODY_BYTES"]``.
    """
    for name, value in headers:
        if name == b"content-type" and len(value) > MAX_HEADER_BYTES:
            return Problem(
                400, f"The Content-Type is too long. Send one of at most {MAX_HEADER_BYTES} bytes."
            )
        if name == b"content-length" and value.isdigit() and is_too_large(int(value[:19])):
            return body_too_large()
    return None


async def call_bounded(application: Any, scope: dict, receive: Any, send: Any) -> None:
    """Call an ASGI application with a request, unless it is refused; a body without a length is counted as it comes."""
    problem = refusal(scope["headers"])
    received_bytes = 0
    has_more = True

    async def receive_counted() -> dict:
        nonlocal problem, received_bytes, has_more
        message = await receive()
        has_more = message.get("more_body", False)
        received_bytes += len(message.get("body", b""))
        if is_too_large(received_bytes):
            problem = body_too_large()
            return {"type": "http.disconnect"}  # Django stops without an answer
        return message

    if problem is None:
        names = {name for name, _ in scope["headers"]}
        is_counted = (
            b"transfer-encoding" in names or b"content-length" not in names
        )  # HTTP/2 may have neither
        await application(scope, receive_counted if is_counted else receive, send)
    if problem is not None:
        await _answer(problem.response(), send)
        if has_more:
            await _discard_body(receive)
        await send({"type": "http.response.body", "body": b""})


async def _answer(response: HttpResponse, send: Any) -> None:
    """Send a response whole, without its end, at which servers close the connection."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    headers.append((b"content-length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content, "more_body": True})


async def _discard_body(receive: Any) -> None:
    """Receive the rest of a body, for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass


def is_too_large(size: int) -> bool:
    """Whether a body of this many bytes is refused."""
    limit = settings.MAX_BODY_BYTES
    return limit is not None and size > limit


def body_too_large() -> Problem:
    """Return the problem of a body over ``NOTIFICATIONS["MAX_BODY_BYTES"]``."""
    return Problem(
        413,
        f"The body is too large. Send at most {settings.MAX_BODY_BYTES} bytes.",
        headers={"Connection": "close"},
    )

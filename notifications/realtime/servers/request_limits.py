"""Limit the size of headers and bodies before a request is read, so that one client cannot block the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse, parse_cookie
from django.template.defaultfilters import filesizeformat
from django.utils import translation
from django.utils.http import parse_header_parameters
from django.utils.translation import gettext

from notifications.conf import settings
from notifications.problems import Problem, plain_page
from notifications.validators import MAX_HEADER_BYTES

#: Seconds in which a refused client can read its response. Closing a connection that has unread data resets it, and the
#: client would not see the response.
LINGER_SECONDS = 5.0


def refusal(headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Return the problem for which a request with these headers (lower-case names) is refused, or None.

    400 for a Content-Type over 2 kB, or with a parameter in an unknown charset (RFC 2231), for which Django would
    return 500. 413 for a Content-Length over ``NOTIFICATIONS["MAX_BODY_BYTES"]``.
    """
    headers = list(headers)
    # Django joins repeated headers by commas.
    content_type = b",".join(value for name, value in headers if name == b"content-type")
    if len(content_type) > MAX_HEADER_BYTES:
        return Problem(400, f"Content-Type is too long. Send at most {MAX_HEADER_BYTES} bytes.")
    if b"*" in content_type:
        try:
            parse_header_parameters(content_type.decode("latin-1"))
        except (LookupError, ValueError):  # by the version of Django
            return Problem(400, "Content-Type has a parameter in an unknown charset. Use UTF-8.")
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and is_too_large(int(value[:19])):
            return body_too_large()
    return None


async def call_bounded(application: Any, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Call an ASGI application unless the request is refused. Count a body without Content-Length as it arrives."""
    problem = refusal(scope["headers"])
    received_bytes = 0
    has_more_body = True

    async def receive_counted() -> dict[str, Any]:
        nonlocal problem, received_bytes, has_more_body
        message = await receive()
        has_more_body = message.get("more_body", False)
        received_bytes += len(message.get("body", b""))
        if is_too_large(received_bytes):
            problem = body_too_large()
            return {"type": "http.disconnect"}  # Django then ends without a response
        return message

    if problem is None:
        names = {name for name, _ in scope["headers"]}
        # A request over HTTP/2 may have neither header.
        is_counted = b"transfer-encoding" in names or b"content-length" not in names
        await application(scope, receive_counted if is_counted else receive, send)
    if problem is not None:
        await _send_without_end(_page_for_people(problem, scope["headers"]) or problem.response(), send)
        if has_more_body:
            await _discard_body(receive)
        await send({"type": "http.response.body", "body": b""})


def is_too_large(size: int) -> bool:
    """Return whether a body of this many bytes exceeds ``NOTIFICATIONS["MAX_BODY_BYTES"]``."""
    limit = settings.MAX_BODY_BYTES
    return limit is not None and size > limit


def body_too_large() -> Problem:
    """Return the problem for a body over ``NOTIFICATIONS["MAX_BODY_BYTES"]``."""
    return Problem(
        413,
        f"The body is too large. Send at most {settings.MAX_BODY_BYTES} bytes.",
        headers={"Connection": "close"},
    )


def _page_for_people(problem: Problem, headers: Iterable[tuple[bytes, bytes]]) -> HttpResponse | None:
    """Return a page for a browser whose form is too large, None for others. No view and no template can make it."""
    values = {name: value.decode("latin-1") for name, value in headers}
    if problem.status != 413 or not values.get(b"accept", "").startswith("text/html"):
        return None
    request = HttpRequest()
    request.META["HTTP_ACCEPT_LANGUAGE"] = values.get(b"accept-language", "")
    request.COOKIES = parse_cookie(values.get(b"cookie", ""))
    with translation.override(translation.get_language_from_request(request)):
        text = gettext(
            "The form was not accepted, because it is larger than %(limit)s. Go back: your browser still has what you "
            "typed. Send less at once, or a smaller file."
        )
        text %= {"limit": filesizeformat(settings.MAX_BODY_BYTES)}
        return plain_page(gettext("Too large"), text, status=problem.status, headers=problem.headers)


async def _send_without_end(response: HttpResponse, send: Any) -> None:
    """Send a whole response, but leave it open: servers close the connection at its end."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    headers.append((b"content-length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content, "more_body": True})


async def _discard_body(receive: Any) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass

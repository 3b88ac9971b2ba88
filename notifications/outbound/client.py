"""One call to an upstream: checked, counted, sent, followed, read, within one deadline."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from multidict import CIMultiDict, CIMultiDictProxy

from notifications import __version__
from notifications.conf import settings

from . import redirects
from .body import ACCEPTED, Form, encode, read
from .call import Call
from .errors import BadResponse, TimedOut
from .guard import Target, check, parse
from .pools import pool
from .redirects import Ask
from .response import Response
from .slots import slots

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class Options(TypedDict, total=False):
    """The keyword arguments of ``request``."""

    json: Any
    data: bytes | str | Form | None
    headers: Headers | None
    params: Form | None
    deadline: float
    max_bytes: int
    guard: bool


async def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    data: bytes | str | Form | None = None,
    headers: Headers | None = None,
    params: Form | None = None,
    deadline: float = 10.0,
    max_bytes: int = 5_000_000,
    guard: bool = True,
) -> Response:
    """Call ``url`` and return its whole answer, whatever its status.

    ``method``: an HTTP method; CONNECT and TRACE are not offered.
    ``url``: an absolute http or https URL of at most 8,000 characters, without user name and password.
    ``json``: anything that JSON can hold, sent as ``application/json``.
    ``data``: bytes, text, or a form as a mapping or a list of pairs; not together with ``json``.
    ``headers``: a mapping or a list of pairs.
    ``params``: added to the query of the URL, a mapping or a list of pairs.
    ``deadline``: seconds for everything: waiting for a free slot, name, connection, redirects, body.
    ``max_bytes``: the largest body, as sent and as unpacked.
    ``guard``: False calls any port and any address, also after redirects. For URLs that no user influences.

    Raises ``Refused``, ``TimedOut``, ``Unreachable``, ``TooLarge`` or ``BadResponse``, all ``OutboundError``;
    ``ValueError`` or ``TypeError`` if the arguments make no sense.

    At most 5 redirects are followed (RFC 9110, section 15.4), each checked like the first, never from https
    to http. To another origin only Accept, Accept-Language, Content-Type, Content-Language and User-Agent go.
    Environment proxies, ``.netrc`` and cookies are not used.
    """
    if not 0 < deadline < math.inf:
        raise ValueError(f"deadline is {deadline!r}. It must be a positive number of seconds.")
    call = Call(max_bytes=max_bytes, guard=guard)
    body, content_type = encode(json, data)
    ask = Ask(
        method=_method(method),
        target=_target(call, url, params),
        headers=_headers(headers, content_type),
        body=body,
    )
    call.subject = ask.target.url.raw_authority
    try:
        async with asyncio.timeout(deadline):
            return await _follow(call, ask)
    except TimeoutError as exc:
        raise TimedOut(call.late(deadline)) from exc


async def get(url: str, **options: Unpack[Options]) -> Response:
    """Call with GET. See request()."""
    return await request("GET", url, **options)


async def post(url: str, **options: Unpack[Options]) -> Response:
    """Call with POST. See request()."""
    return await request("POST", url, **options)


async def put(url: str, **options: Unpack[Options]) -> Response:
    """Call with PUT. See request()."""
    return await request("PUT", url, **options)


async def patch(url: str, **options: Unpack[Options]) -> Response:
    """Call with PATCH. See request()."""
    return await request("PATCH", url, **options)


async def delete(url: str, **options: Unpack[Options]) -> Response:
    """Call with DELETE. See request()."""
    return await request("DELETE", url, **options)


async def head(url: str, **options: Unpack[Options]) -> Response:
    """Call with HEAD; the body is empty. See request()."""
    return await request("HEAD", url, **options)


async def _follow(call: Call, ask: Ask) -> Response:
    while True:
        response = await _exchange(call, ask)
        location = response.headers.get("Location")
        if response.status not in redirects.STATUSES or location is None:
            return response
        call.history.append(response)
        if len(call.history) > redirects.LIMIT:
            raise BadResponse(f"{call.subject} redirects more than {redirects.LIMIT} times.")
        with call.refusing():
            ask = redirects.follow(ask, response.status, location)


async def _exchange(call: Call, ask: Ask) -> Response:
    """Send one request and read its answer; of a redirect only the head."""
    with call.refusing():
        opened = not call.guard or check(ask.target)
    call.stage = "slot"
    await slots.take(ask.target.host, settings.OUTBOUND_PER_HOST)
    started = time.monotonic()
    call.stage = "connection"
    try:
        with call.refusing(), call.failing():
            session = pool().session(checked=not opened)
            async with session.request(
                ask.method, ask.target.url, headers=ask.headers, data=ask.body, allow_redirects=False
            ) as answer:
                call.stage = "body"
                is_redirect = answer.status in redirects.STATUSES and "Location" in answer.headers
                body = b"" if is_redirect else await read(answer, call.max_bytes, call.place)
    finally:
        slots.give_back(ask.target.host)
        call.elapsed += time.monotonic() - started
    return Response(
        status=answer.status,
        url=str(ask.target.url),
        headers=answer.headers,
        body=body,
        elapsed=call.elapsed,
        history=tuple(call.history),
    )


def _target(call: Call, url: str, params: Form | None) -> Target:
    with call.refusing():
        target = parse(url)
        return target if params is None else parse(str(target.url.extend_query(params)))


def _method(method: str) -> str:
    method = method.upper()
    if not re.fullmatch(r"[A-Z0-9!#$%&'*+.^_`|~-]+", method) or method in ("CONNECT", "TRACE"):
        raise ValueError(f"method is {method!r}. Use GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.")
    return method


def _headers(given: Headers | None, content_type: str) -> CIMultiDictProxy[str]:
    headers = CIMultiDict(given or {})
    for name, value in headers.items():
        if re.search(r"[\r\n\0]", name + value):
            raise ValueError(f"The header {name!r} contains a line break or a NUL.")
    headers.setdefault("User-Agent", f"asyncsite-notifications/{__version__}")
    headers.setdefault("Accept-Encoding", ACCEPTED)
    if content_type:
        headers.setdefault("Content-Type", content_type)
    return CIMultiDictProxy(headers)

"""Calling an upstream: checked, counted, sent, followed, tried again, read, within one deadline."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypedDict, Unpack

from multidict import CIMultiDict, CIMultiDictProxy

from notifications import __version__
from notifications.traces import outgoing

from . import idempotency
from .attempts import answered
from .body import Form, encode
from .call import Call
from .decompression import ACCEPTED
from .guard import Forbidden, Target, parse
from .redirects import Ask
from .response import Response
from .streaming import Stream

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

_USUAL = CIMultiDictProxy(
    CIMultiDict(
        {
            "Accept": "*/*",
            "Accept-Encoding": ACCEPTED,
            "User-Agent": f"asyncsite-notifications/{__version__}",
        }
    )
)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_METHOD = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")
_BREAK = re.compile(r"[\r\n\0]")


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of ``request`` and ``stream``."""

    json: Any
    data: bytes | str | Form | None
    headers: Headers | None
    params: Form | None
    deadline: float
    max_bytes: int
    retries: int
    guard: bool
    idempotency_key: str | bool


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
    retries: int = 2,
    guard: bool = True,
    idempotency_key: str | bool = False,
) -> Response:
    """Call ``url`` and return its whole answer, whatever its status.

    ``method``: an HTTP method; CONNECT and TRACE are not offered.
    ``url``: an absolute http or https URL of at most 8,000 characters, without user name and password.
    ``json``: anything that JSON can hold, sent as ``application/json``.
    ``data``: bytes, text, or a form as a mapping or a list of pairs; not together with ``json``.
    ``headers``: a mapping or a list of pairs.
    ``params``: added to the query of the URL, a mapping or a list of pairs.
    ``deadline``: seconds for everything: waiting for a free slot, name, connection, redirects, retries, body.
    ``max_bytes``: the largest body, as sent and as unpacked.
    ``retries``: how often it is tried again at most, if the method is idempotent (RFC 9110, section 9.2.2) or the
    request has an Idempotency-Key: after a connection that failed, and after 429, 502, 503 and 504.
    ``guard``: False calls any port and any address, also after redirects. For URLs that no user influences.
    ``idempotency_key``: True sends an Idempotency-Key made for this call, the same at all attempts, also of the job
    that calls; text sends that one.

    Raises ``Refused``, ``TimedOut``, ``Unreachable``, ``TooLarge``, ``CircuitOpen`` or ``BadResponse``, all
    ``OutboundError``; ``ValueError`` or ``TypeError`` if the arguments make no sense.

    At most 5 redirects are followed (RFC 9110, section 15.4), each checked like the first, never from https
    to http. To another origin only Accept, Accept-Language, Content-Type, Content-Language and User-Agent go.
    Environment proxies, ``.netrc`` and cookies are not used.
    """
    call, ask = _prepared(
        method, url, json, data, headers, params, deadline, max_bytes, retries, guard, idempotency_key
    )
    with call:
        return (await answered(call, ask, whole=True)).response()


@asynccontextmanager
async def stream(method: str, url: str, **options: Unpack[RequestOptions]) -> AsyncIterator[Stream]:
    """Call ``url`` and read its body while it arrives, for bodies that are too large to be held.

    >>> async with outbound.stream("GET", url) as answer:
    ...     answer.raise_for_status()
    ...     async for piece in answer:
    ...         file.write(piece)

    Takes what ``request`` takes; unless told, the deadline is 60 s and the largest body 1,000,000,000 bytes.
    The deadline is for all of it, with what is done between the pieces. It is tried again until the head of an
    answer is there, and not after that. Whoever leaves early closes the connection.
    """
    more: RequestOptions = {"deadline": 60.0, "max_bytes": 1_000_000_000, **options}
    call, ask = _prepared(method, url, **more)
    with call:
        run = await answered(call, ask, whole=False)
        try:
            yield Stream(call, run)
        except BaseException as exc:
            run.end(exc)
            raise
        run.end()


async def get(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Call with GET. See request()."""
    return await request("GET", url, **options)


async def post(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Call with POST. See request()."""
    return await request("POST", url, **options)


async def put(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Call with PUT. See request()."""
    return await request("PUT", url, **options)


async def patch(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Call with PATCH. See request()."""
    return await request("PATCH", url, **options)


async def delete(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Call with DELETE. See request()."""
    return await request("DELETE", url, **options)


async def head(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Call with HEAD; the body is empty. See request()."""
    return await request("HEAD", url, **options)


def _prepared(
    method: str,
    url: str,
    json: Any = None,
    data: bytes | str | Form | None = None,
    headers: Headers | None = None,
    params: Form | None = None,
    deadline: float = 10.0,
    max_bytes: int = 5_000_000,
    retries: int = 2,
    guard: bool = True,
    idempotency_key: str | bool = False,
) -> tuple[Call, Ask]:
    if not 0 < deadline < math.inf:
        raise ValueError(f"deadline is {deadline!r}. It must be a positive number of seconds.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries is {retries!r}. It must be a whole number from 0.")
    method = _method(method)
    call = Call(
        method=method,
        subject="The URL",
        deadline=deadline,
        max_bytes=max_bytes,
        retries=retries,
        guard=guard,
    )
    body, content_type = encode(json, data)
    target = _target(call, url, params)
    call.subject = target.url.raw_authority
    ask = Ask(method=method, target=target, headers=_headers(headers, content_type), body=body)
    if idempotency_key is not False:
        ask = ask.having(idempotency.HEADER, idempotency.key(idempotency_key, method, str(target.url), body))
    return call, ask


def _target(call: Call, url: str, params: Form | None) -> Target:
    try:
        target = parse(url)
        return target if params is None else parse(str(target.url.extend_query(params)))
    except Forbidden as exc:
        raise call.refused(exc) from exc


def _method(method: str) -> str:
    method = method.upper()
    if method in _METHODS:
        return method
    if not _METHOD.fullmatch(method) or method in ("CONNECT", "TRACE"):
        raise ValueError(f"method is {method!r}. Use GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.")
    return method


def _headers(given: Headers | None, content_type: str) -> CIMultiDictProxy[str]:
    trace = outgoing()
    if not given and not content_type and not trace:
        return _USUAL
    headers = CIMultiDict(given or {})
    for name, value in headers.items():
        if _BREAK.search(name + value):
            raise ValueError(f"The header {name!r} contains a line break or a NUL.")
    for name, value in (*_USUAL.items(), *trace):
        headers.setdefault(name, value)
    if content_type:
        headers.setdefault("Content-Type", content_type)
    return CIMultiDictProxy(headers)

"""The functions that make outbound calls: ``request``, one for each method, and ``stream`` with its response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Unpack

import aiohttp

from .attempts import send_with_redirects
from .body import Form, iter_chunks
from .call import Call
from .exchange import Exchange
from .request import Headers, RequestOptions, build_request
from .response import Response
from .telemetry import reported


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
    follow_redirects: bool = True,
    is_user_url: bool = False,
) -> Response:
    """Send a request to ``url`` and return the complete response, whatever its status.

    ``method``: an HTTP method; CONNECT and TRACE are not supported.
    ``url``: an absolute http or https URL of at most 8,000 characters, without user name and password.
    ``json``: any JSON value, sent as ``application/json``.
    ``data``: bytes, text, or a form as a mapping or a list of pairs; not together with ``json``.
    ``headers``: a mapping or a list of pairs.
    ``params``: a mapping or a list of pairs to add to the query of the URL.
    ``deadline``: seconds for the whole call: name lookup, connection, redirects, retries, body; outside of a job also
    waiting for a slot.
    ``max_bytes``: the maximum size of the body, both as sent and decompressed.
    ``retries``: the maximum number of retries. A request is retried after a failed connection and after 429, 502, 503
    and 504, if its method is idempotent (RFC 9110, section 9.2.2) or it has an Idempotency-Key.
    ``guard``: False allows any port and any address, also after redirects. Only for URLs that no user influences.
    ``idempotency_key``: a string to send as Idempotency-Key, or True to generate one, which is the same at every
    attempt of this call and of the job that makes it. In a step of a job all requests but GET, HEAD and OPTIONS have a
    generated one by default, for which they are not retried.
    ``follow_redirects``: False returns a redirect as the response.
    ``is_user_url``: True if a user has chosen the URL. Then the call neither uses nor closes a limit of the project's
    own calls (``notifications.contrib.rates``): those to URLs of users have a limit of their own, of the same rate.

    Raises ``Refused``, ``TimedOut``, ``Unreachable``, ``TooLarge``, ``CircuitOpen`` or ``BadResponse``, all
    ``OutboundError``; ``ValueError`` or ``TypeError`` for invalid arguments.

    At most 5 redirects are followed (RFC 9110, section 15.4), each checked like the first URL, never from https
    to http. Only Accept, Accept-Encoding, Accept-Language, Content-Type, Content-Language and User-Agent are sent to
    another origin. Environment proxies, ``.netrc`` and cookies are not used.
    """
    call, built = build_request(
        *(method, url, json, data, headers, params, deadline, max_bytes, retries, guard, idempotency_key),
        follow_redirects=follow_redirects,
        is_user_url=is_user_url,
    )
    with reported(call), call:
        return (await send_with_redirects(call, built, read_body=True)).to_response()


@asynccontextmanager
async def stream(method: str, url: str, **options: Unpack[RequestOptions]) -> AsyncIterator[ResponseStream]:
    """Send a request and read the response's body while it arrives, for bodies too large for memory.

    >>> async with outbound.stream("GET", url) as response:
    ...     response.raise_for_status()
    ...     async for chunk in response:
    ...         file.write(chunk)

    Takes the arguments of ``request``. By default the deadline is 60 s and the maximum body 1,000,000,000 bytes.
    The deadline includes the time that the caller spends on the chunks. The request is retried until the head of a
    response has arrived, not after. Leaving the block before the end of the body closes the connection.
    """
    with_defaults: RequestOptions = {"deadline": 60.0, "max_bytes": 1_000_000_000, **options}
    call, built = build_request(method, url, **with_defaults)
    with reported(call), call:
        exchange = await send_with_redirects(call, built, read_body=False)
        with exchange:
            yield ResponseStream(call, exchange)


async def get(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Send a GET request. See ``request``."""
    return await request("GET", url, **options)


async def post(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Send a POST request. See ``request``."""
    return await request("POST", url, **options)


async def put(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Send a PUT request. See ``request``."""
    return await request("PUT", url, **options)


async def patch(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Send a PATCH request. See ``request``."""
    return await request("PATCH", url, **options)


async def delete(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Send a DELETE request. See ``request``."""
    return await request("DELETE", url, **options)


async def head(url: str, **options: Unpack[RequestOptions]) -> Response:
    """Send a HEAD request; the response's body is empty. See ``request``."""
    return await request("HEAD", url, **options)


class ResponseStream:
    """The head of a response, and its body in chunks: ``async for chunk in response``, once.

    ``status``, ``url``, ``headers``, ``attempts`` and ``history`` are those of ``Response``.
    The chunks are decompressed bytes, of any size from 1 to about 256 KiB.
    ``elapsed`` is the seconds since the first request was sent, without waiting, up to the end of the block.
    """

    def __init__(self, call: Call, exchange: Exchange) -> None:
        head = exchange.to_response()
        self.status: int = head.status
        self.url: str = head.url
        self.headers: Mapping[str, str] = head.headers
        self.attempts: int = head.attempts
        self.history = head.history
        self.raise_for_status = head.raise_for_status
        self._call = call
        self._exchange = exchange
        self._is_read = False
        call.stage = "caller"

    @property
    def elapsed(self) -> float:
        return self._call.elapsed + self._exchange.running_seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_read:
            raise RuntimeError("The body has already been read. Keep the chunks if you need them again.")
        self._is_read = True
        call, exchange = self._call, self._exchange
        try:
            call.stage = "body"
            async for chunk in iter_chunks(exchange.client_response, call.max_bytes, call.server):
                call.body_bytes += len(chunk)
                call.stage = "caller"
                yield chunk
                call.stage = "body"
            call.stage = "caller"
        except (aiohttp.ClientError, asyncio.CancelledError) as exc:
            exchange.end(exc)
            if isinstance(exc, aiohttp.ClientError):
                raise call.translate_error(exc) from exc
            raise

"""Send requests over aiohttp. The only module that uses names of aiohttp that it does not document.

``DirectTransport`` uses aiohttp's connector, request and response without ``ClientSession``. A session does work for
each request that is not wanted here (cookies, proxies, redirects, timeouts of its own), which took a tenth of the time
of a call.
``SessionTransport`` uses a ``ClientSession`` as documented. It is used if ``find_incompatibility()`` finds that this
version of aiohttp lacks something that ``DirectTransport`` needs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

import aiohttp
from aiohttp import (
    AddrInfoType,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver

from .request import Request

logger = logging.getLogger("notifications.outbound")

MAX_INTERIM_RESPONSES = 20  # 1xx responses before the final one
KEEPALIVE_SECONDS = 5.0  # that an unused connection is kept
READ_BUFFER_BYTES = 65_536

_NO_TIMEOUT = ClientTimeout()  # Call enforces one deadline over everything.

_missing = ""
try:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.helpers import TimerNoop
    from aiohttp.http_exceptions import BadHttpMessage
except ImportError as exc:  # pragma: no cover
    _missing = str(exc)
    ResponseHandler = object  # type: ignore[assignment,misc]


class Transport(Protocol):
    """Sends requests over connections of its own."""

    async def send(self, request: Request, headers: Any) -> ClientResponse:
        """Send ``request`` with ``headers`` and return the response with its body unread and compressed.

        Raises aiohttp.ClientError.
        """

    async def close(self) -> None:
        """Close all connections."""


def make_transport(
    *, resolver: AbstractResolver, socket_factory: Callable[[AddrInfoType], socket.socket]
) -> Transport:
    """Return a transport for the running event loop."""
    connector = TCPConnector(
        resolver=resolver,
        use_dns_cache=False,  # The resolver has a cache.
        socket_factory=socket_factory,
        limit=0,  # slots.py limits the calls of all event loops together.
        keepalive_timeout=KEEPALIVE_SECONDS,
    )
    if find_incompatibility():
        return SessionTransport(connector)
    return DirectTransport(connector)


class SessionTransport:
    """Send requests with aiohttp's documented session.

    It differs from DirectTransport in two ways: the session sends an idempotent request again after any connection
    that was closed without a response, not only after a kept one, and 1xx responses are limited only by the deadline.
    """

    def __init__(self, connector: TCPConnector) -> None:
        self._session = ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,  # body.py decompresses, within the size limit.
            read_bufsize=READ_BUFFER_BYTES,
        )

    async def send(self, request: Request, headers: Any) -> ClientResponse:
        return await self._session.request(
            request.method, request.target.url, headers=headers, data=request.body, allow_redirects=False
        )

    async def close(self) -> None:
        await self._session.close()


class DirectTransport:
    """Send requests with aiohttp's connector, request and response, without a session."""

    def __init__(self, connector: TCPConnector) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = connector
        self._timer = TimerNoop()
        connector._factory = partial(_ConnectionHandler, loop=self._loop)  # type: ignore[assignment]

    async def send(self, request: Request, headers: Any) -> ClientResponse:
        while True:
            client_request = ClientRequest(
                request.method,
                request.target.url,
                headers=headers,
                data=request.body,
                loop=self._loop,
                response_class=ClientResponse,
                timer=self._timer,
            )
            connection = await self._connector.connect(client_request, [], _NO_TIMEOUT)
            handler = connection.protocol
            assert isinstance(handler, _ConnectionHandler)
            try:
                was_used = handler.was_used
                handler.set_response_params(
                    timer=self._timer,
                    skip_payload=request.method == "HEAD",
                    read_until_eof=True,
                    auto_decompress=False,  # body.py decompresses, within the size limit.
                    read_bufsize=READ_BUFFER_BYTES,
                )
                client_response = await client_request.send(connection)
                try:
                    return await client_response.start(connection)
                except BaseException:
                    client_response.close()
                    raise
            except (ClientOSError, ServerDisconnectedError):
                connection.close()
                # The server may have closed a kept connection at this moment (RFC 9112, section 9.3.1).
                if not (was_used and request.is_idempotent):
                    raise
            except OSError as exc:
                connection.close()
                raise ClientOSError(*exc.args) from exc
            except BaseException:
                connection.close()
                raise

    async def close(self) -> None:
        await self._connector.close()


class _ConnectionHandler(ResponseHandler):
    """aiohttp's protocol of a connection, which also counts requests and interim (1xx) responses."""

    _counted_parser: object = None  # aiohttp makes a new parser for each request.
    _remaining_heads = 0

    @property
    def was_used(self) -> bool:
        """Whether the connection has already been used for a request."""
        return self._counted_parser is not None

    def read(self) -> Any:
        """Return an awaitable of the next head; raise BadHttpMessage after too many interim responses."""
        if self._counted_parser is not self._parser:
            self._counted_parser, self._remaining_heads = self._parser, MAX_INTERIM_RESPONSES + 1
        self._remaining_heads -= 1
        if self._remaining_heads < 0:
            raise BadHttpMessage("too many interim responses")
        return super().read()


@cache
def find_incompatibility() -> str:
    """Return what DirectTransport needs and aiohttp does not have, or "", and log it. Checked once in a process.

    Compares names and signatures. Needs a running event loop.
    """
    missing = _missing or _find_missing_attribute() or _find_changed_signature()
    if missing:
        logger.warning(
            "Outbound calls use aiohttp's session, which is slower: aiohttp %s differs from the versions known: %s",
            aiohttp.__version__,
            missing,
        )
    return missing


def _find_missing_attribute() -> str:
    for owner, name in (
        (TCPConnector(), "_factory"),
        (ResponseHandler(asyncio.get_running_loop()), "_parser"),
        (ResponseHandler, "read"),
    ):
        if not hasattr(owner, name):
            return f"{owner} has no {name}"
    return ""


def _find_changed_signature() -> str:
    anything: Any = None
    for function, arguments, options in (
        (ClientRequest, 2, ("headers", "data", "loop", "response_class", "timer")),
        (ClientRequest.send, 2, ()),
        (ClientResponse.start, 2, ()),
        (TCPConnector.connect, 4, ()),
        (
            ResponseHandler.set_response_params,
            1,
            ("timer", "skip_payload", "read_until_eof", "auto_decompress", "read_bufsize"),
        ),
    ):
        try:
            inspect.signature(function).bind(*[anything] * arguments, **dict.fromkeys(options, anything))
        except TypeError as exc:
            return f"{function.__qualname__}: {exc}"
    return ""

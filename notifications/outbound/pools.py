"""The connections of an event loop, closed with it.

Each loop has two sets: for one every socket is checked, one is for what the allow list or ``guard=False`` opens.
They never share a connection, so an opened one cannot be picked up by a call that must be checked.

aiohttp's connector, request and response are used without its session, which does for each request what is not
wanted here (cookies, proxies, redirects, timeouts of its own) and took a tenth of the time of a call.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import Any

from aiohttp import AddrInfoType, ClientOSError, ClientTimeout, ServerDisconnectedError, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.helpers import TimerNoop
from aiohttp.http_exceptions import BadHttpMessage

from .addresses import reserved
from .guard import ForbiddenAddress
from .redirects import Ask
from .resolver import PublicResolver, Resolver
from .retries import may_be_repeated

MAX_INTERIM = 20  # answers of the 100s before the real one
KEEP_ALIVE = 5.0  # seconds an unused connection is kept
#: Milliseconds that sent data may stay unacknowledged. Less than the usual deadline of a call: there is time to send a
#: request again that went out on a kept connection which the network has forgotten.
UNACKNOWLEDGED_MS = 5_000
#: Seconds of silence after which the kernel asks the other end whether it is there, and between two such questions.
PROBE_AFTER_SECONDS, PROBE_INTERVAL_SECONDS = 10, 5

_NO_TIMEOUT = ClientTimeout()  # the deadline is over the whole call
_NO_TIMER = TimerNoop()


class Pool:
    """The connectors of one event loop, made when they are first needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connectors: dict[bool, TCPConnector] = {}

    async def send(self, ask: Ask, headers: Any, *, checked: bool) -> ClientResponse:
        """Send a request, on a connection whose socket was checked or one whose socket was not; return the answer
        with its head. Raises aiohttp.ClientError."""
        connector = self._connectors.get(checked)
        if connector is None:
            connector = self._connectors[checked] = _connector(checked=checked)
        while True:
            request = ClientRequest(
                ask.method,
                ask.target.url,
                headers=headers,
                data=ask.body,
                loop=self._loop,
                response_class=ClientResponse,
                timer=_NO_TIMER,
            )
            connection = await connector.connect(request, [], _NO_TIMEOUT)
            protocol = connection.protocol
            assert isinstance(protocol, Protocol)
            try:
                was_used = protocol.was_used
                protocol.set_response_params(
                    timer=_NO_TIMER,
                    skip_payload=ask.method == "HEAD",
                    read_until_eof=True,
                    auto_decompress=False,  # unpacked in body.py, with a bound
                    read_bufsize=65_536,
                )
                answer = await request.send(connection)
                try:
                    return await answer.start(connection)
                except BaseException:
                    answer.close()
                    raise
            except (ClientOSError, ServerDisconnectedError):
                connection.close()
                # A kept connection may have been closed by the other side just now (RFC 9112, section 9.3.1).
                if not (was_used and may_be_repeated(ask)):
                    raise
            except OSError as exc:
                connection.close()
                raise ClientOSError(*exc.args) from exc
            except BaseException:
                connection.close()
                raise

    async def close(self) -> None:
        while self._connectors:
            await self._connectors.popitem()[1].close()


def pool() -> Pool:
    """Return the pool of the running event loop, which owns it: a reference from here would keep both for ever."""
    loop = asyncio.get_running_loop()
    found: Pool | None = getattr(loop, _NAME, None)
    if found is None:
        found = Pool(loop)
        setattr(loop, _NAME, found)
        _close_with(loop, found)
    return found


_NAME = "_notifications_outbound"


def checked_socket(info: AddrInfoType) -> socket.socket:
    """Make the socket for one attempt to connect, or raise ForbiddenAddress.

    aiohttp calls it with the very address it connects to next, for names and literals, redirects and every
    parallel attempt, so nothing can change between this check and the connection.
    """
    _, _, _, _, address = info
    if why := reserved(address[0]):
        raise ForbiddenAddress(why)
    return make_socket(info)


def make_socket(info: AddrInfoType) -> socket.socket:
    """Make a socket that notices within seconds that packets are lost, as far as the system offers it."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_AFTER_SECONDS),
        ("TCP_KEEPINTVL", PROBE_INTERVAL_SECONDS),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
    ):
        if option := getattr(socket, name, None):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class Protocol(ResponseHandler):
    """aiohttp's side of a connection, which passes over interim answers, but not for ever."""

    _of: object = None  # the parser of the request that was answered last: each has its own
    _left = 0

    @property
    def was_used(self) -> bool:
        """Whether the connection had requests before."""
        return self._of is not None

    def read(self) -> Any:
        """Return what awaits the next head of an answer."""
        if self._of is not self._parser:
            self._of, self._left = self._parser, MAX_INTERIM + 1
        self._left -= 1
        if self._left < 0:
            raise BadHttpMessage("too many interim answers")
        return super().read()


class Connector(TCPConnector):
    """Makes connections that speak Protocol."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(Protocol, loop=self._loop)  # type: ignore[assignment]


def _connector(*, checked: bool) -> TCPConnector:
    return Connector(
        resolver=PublicResolver() if checked else Resolver(),
        use_dns_cache=False,  # the resolver has one
        socket_factory=checked_socket if checked else make_socket,
        limit=0,  # counted by slots.py, over all event loops
        keepalive_timeout=KEEP_ALIVE,
    )


def _close_with(loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
    """Make ``loop.close()`` close the pool first, while the loop can still run."""
    close_loop = loop.close

    def close() -> None:
        if loop.is_running() or loop.is_closed():
            return close_loop()
        del loop.close  # the class's own is back, and the cycle is broken
        delattr(loop, _NAME)
        try:
            _run(loop, pool)
        finally:
            close_loop()

    loop.close = close  # type: ignore[method-assign]


def _run(loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop.run_until_complete(pool.close())
        return
    # Closed from inside another running loop, where a second one cannot run: a thread of its own can.
    thread = threading.Thread(target=lambda: loop.run_until_complete(pool.close()))
    thread.start()
    thread.join()

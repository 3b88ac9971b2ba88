"""The connections of an event loop, closed with it."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

from aiohttp import (
    ClientConnectionError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
)
from aiohttp.http_exceptions import BadHttpMessage

from notifications.db.threads import start_thread

from .connector import make_connector
from .request import Request

if TYPE_CHECKING:
    from aiohttp.connector import Connection

MAX_INTERIM_RESPONSES = 20  # 1xx responses before the final one
READ_BUFFER_BYTES = 65_536

_LOOP_ATTRIBUTE = "_notifications_outbound"


class ConnectionPool:
    """The connections of one event loop.

    There are two sets: guarded ones, whose sockets are checked, and those that the allow list or ``guard=False``
    permits. They never share a connection, so that a guarded call cannot use one that was not checked.
    """

    def __init__(self) -> None:
        self._sessions: dict[bool, ClientSession] = {}

    async def send(self, request: Request, headers: Any, *, is_guarded: bool) -> ClientResponse:
        """Send a request and return its response with the body unread; raise aiohttp.ClientError."""
        session = self._sessions.get(is_guarded)
        if session is None:
            session = self._sessions[is_guarded] = _make_session(is_guarded=is_guarded)
        return await session.request(
            request.method, request.target.url, headers=headers, data=request.body, allow_redirects=False
        )

    async def close(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()


def get_pool() -> ConnectionPool:
    """Return the pool of the running event loop.

    The loop owns it, as an attribute. A reference from this module would keep both alive.
    """
    loop = asyncio.get_running_loop()
    pool: ConnectionPool | None = getattr(loop, _LOOP_ATTRIBUTE, None)
    if pool is None:
        pool = ConnectionPool()
        setattr(loop, _LOOP_ATTRIBUTE, pool)
        _close_with_loop(loop, pool)
    return pool


def _make_session(*, is_guarded: bool) -> ClientSession:
    return ClientSession(
        connector=make_connector(is_guarded=is_guarded),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(),  # None: Call enforces one deadline over everything.
        auto_decompress=False,  # body.py decompresses, within the size limit.
        read_bufsize=READ_BUFFER_BYTES,
        response_class=_LimitedResponse,
    )


class _LimitedResponse(ClientResponse):
    """aiohttp's response, with a limit on interim (1xx) responses and on how often its session sends a request again.

    aiohttp has no option for either. Without the limits, ten calls to a server that sends nothing but interim
    responses block the event loop for most of a second, and a server that closes each connection without a response
    receives each idempotent request twice, also with ``retries=0``.
    """

    async def start(self, connection: Connection) -> ClientResponse:
        """Receive the head of the final response. Overrides a method that aiohttp does not document."""
        protocol: Any = connection.protocol
        was_used, protocol.was_used = getattr(protocol, "was_used", False), True
        heads, read = count(), protocol.read

        def read_head() -> Any:
            if next(heads) > MAX_INTERIM_RESPONSES:
                raise BadHttpMessage("too many interim responses")
            return read()

        protocol.read = read_head
        try:
            return await super().start(connection)
        except (ClientOSError, ServerDisconnectedError) as exc:
            # The session sends the request again after these two. On a kept connection it should: the server may have
            # closed it at this moment (RFC 9112, section 9.3.1).
            if was_used:
                raise
            raise ClientConnectionError(str(exc)) from exc
        finally:
            del protocol.read


def _close_with_loop(loop: asyncio.AbstractEventLoop, pool: ConnectionPool) -> None:
    """Replace ``loop.close()`` by a function that closes the pool first, while the loop can still run."""
    close_loop = loop.close

    def close() -> None:
        if loop.is_running() or loop.is_closed():
            return close_loop()
        del loop.close  # Restores the method of the class, and breaks the reference cycle.
        delattr(loop, _LOOP_ATTRIBUTE)
        try:
            _run_close(loop, pool)
        finally:
            close_loop()

    loop.close = close  # type: ignore[method-assign]


def _run_close(loop: asyncio.AbstractEventLoop, pool: ConnectionPool) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop.run_until_complete(pool.close())
        return
    # Another loop runs in this thread, where a second one cannot.
    start_thread(lambda: loop.run_until_complete(pool.close()), "notifications-outbound").join()

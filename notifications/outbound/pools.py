"""The connections of an event loop, closed with it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from aiohttp import ClientResponse

from .aiohttp_adapter import Transport, make_transport
from .request import Request
from .resolver import PublicResolver, Resolver
from .sockets import make_guarded_socket, make_socket

_LOOP_ATTRIBUTE = "_notifications_outbound"


class ConnectionPool:
    """The connections of one event loop.

    There are two sets: guarded ones, whose sockets are checked, and those that the allow list or ``guard=False``
    permits. They never share a connection, so that a guarded call cannot use one that was not checked.
    """

    def __init__(self) -> None:
        self._transports: dict[bool, Transport] = {}

    async def send(self, request: Request, headers: Any, *, is_guarded: bool) -> ClientResponse:
        """Send a request and return its response with the body unread; raise aiohttp.ClientError."""
        transport = self._transports.get(is_guarded)
        if transport is None:
            transport = self._transports[is_guarded] = make_transport(
                resolver=PublicResolver() if is_guarded else Resolver(),
                socket_factory=make_guarded_socket if is_guarded else make_socket,
            )
        return await transport.send(request, headers)

    async def close(self) -> None:
        while self._transports:
            await self._transports.popitem()[1].close()


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
    thread = threading.Thread(target=lambda: loop.run_until_complete(pool.close()))
    thread.start()
    thread.join()

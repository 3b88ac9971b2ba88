"""The aiohttp sessions of an event loop, closed with it.

Each loop has two: one checks every socket it makes, one is for what the allow list or ``guard=False`` opens.
They never share a connection, so an opened one cannot be picked up by a call that must be checked.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import weakref
from functools import partial
from typing import Any

from aiohttp import AddrInfoType, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

from notifications import __version__

from .addresses import reserved
from .guard import ForbiddenAddress
from .names import PublicResolver, Resolver
from .unpacking import ACCEPTED

MAX_INTERIM = 20  # answers of the 100s before the real one
KEEP_ALIVE = 5.0  # seconds an unused connection is kept


class Pool:
    """The sessions of one event loop, made when they are first needed."""

    def __init__(self) -> None:
        self._sessions: dict[bool, ClientSession] = {}

    def session(self, *, checked: bool) -> ClientSession:
        """Return the session whose sockets are checked, or the one whose sockets are not."""
        if checked not in self._sessions:
            self._sessions[checked] = _session(checked=checked)
        return self._sessions[checked]

    async def close(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()


# The pool is owned by the loop's own ``close`` attribute: a strong reference here would keep both for ever.
_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Pool]] = weakref.WeakKeyDictionary()


def pool() -> Pool:
    """Return the pool of the running event loop."""
    loop = asyncio.get_running_loop()
    known = _pools.get(loop)
    found = known() if known is not None else None
    if found is None:
        found = Pool()
        _pools[loop] = weakref.ref(found)
        _close_with(loop, found)
    return found


def checked_socket(info: AddrInfoType) -> socket.socket:
    """Make the socket for one attempt to connect, or raise ForbiddenAddress.

    aiohttp calls it with the very address it connects to next, for names and literals, redirects and every
    parallel attempt, so nothing can change between this check and the connection.
    """
    family, kind, protocol, _, address = info
    if why := reserved(address[0]):
        raise ForbiddenAddress(why)
    return socket.socket(family, kind, protocol)


class Protocol(ResponseHandler):
    """aiohttp's side of a connection, which passes over interim answers, but not for ever."""

    _of: object = None  # the parser of the request that is answered now: each has its own
    _left = 0

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


def _session(*, checked: bool) -> ClientSession:
    connector = Connector(
        resolver=PublicResolver() if checked else Resolver(),
        socket_factory=checked_socket if checked else None,
        limit=0,  # counted by slots.py, over all event loops
        keepalive_timeout=KEEP_ALIVE,
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(),  # none: the deadline is over the whole call
        headers={"User-Agent": f"asyncsite-notifications/{__version__}", "Accept-Encoding": ACCEPTED},
        trust_env=False,  # no proxies, no .netrc
        auto_decompress=False,  # unpacked in body.py, with a bound
    )


def _close_with(loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
    """Make ``loop.close()`` close the pool first, while the loop can still run."""
    close_loop = loop.close

    def close() -> None:
        if loop.is_running() or loop.is_closed():
            return close_loop()
        del loop.close  # the class's own is back, and the cycle is broken
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

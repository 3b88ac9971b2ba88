"""The connector of aiohttp: the addresses of a name and the socket for each, both checked by the guard."""

from __future__ import annotations

import socket
from collections import OrderedDict
from time import monotonic

from aiohttp import AddrInfoType, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from .addresses import describe_reserved
from .guard import ForbiddenAddress
from .resolver import lookups

KEEPALIVE_SECONDS = 5.0  # that an unused connection is kept

CACHE_SECONDS, MAX_CACHED_NAMES = 10.0, 1000

#: Milliseconds that sent data may stay unacknowledged. Below the default deadline of a call, so that there is time to
#: send a request again that was sent on a kept connection which the network has dropped.
TCP_USER_TIMEOUT_MS = 5_000
#: Seconds of silence before the kernel sends the first keep-alive probe, and between two probes.
KEEPALIVE_IDLE_SECONDS, KEEPALIVE_INTERVAL_SECONDS = 10, 5


def make_connector(*, is_guarded: bool) -> TCPConnector:
    """Return a connector for the running event loop."""
    return TCPConnector(
        resolver=PublicResolver() if is_guarded else Resolver(),
        use_dns_cache=False,  # With aiohttp's, a lookup continues after all calls that wanted it have ended.
        socket_factory=make_guarded_socket if is_guarded else make_socket,
        limit=0,  # slots.py limits the calls of all event loops together.
        keepalive_timeout=KEEPALIVE_SECONDS,
    )


class Resolver(AbstractResolver):
    """Resolve names without checking the addresses. It caches them for CACHE_SECONDS."""

    def __init__(self) -> None:
        self._cache: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of all families, whatever ``family`` is: the guard must check the complete answer."""
        expires_at, addresses = self._cache.get(host, (0.0, []))
        if expires_at <= monotonic():
            addresses = await lookups.run(host)
            self._cache[host] = monotonic() + CACHE_SECONDS, addresses
            self._cache.move_to_end(host)
            while len(self._cache) > MAX_CACHED_NAMES:
                self._cache.popitem(last=False)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: the threads belong to the process."""


class PublicResolver(Resolver):
    """Resolve names, and raise ForbiddenAddress if one of the addresses is not public."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await super().resolve(host, port, family)
        for result in results:
            if reason := describe_reserved(result["host"]):
                raise ForbiddenAddress(reason)
        return results


def make_guarded_socket(info: AddrInfoType) -> socket.socket:
    """Return the socket for one connection attempt; raise ForbiddenAddress if the address is not public.

    aiohttp passes the very address that it connects to next, for names and literals, redirects and each of parallel
    attempts, so that nothing can change between this check and the connection.
    """
    _, _, _, _, address = info
    if reason := describe_reserved(address[0]):
        raise ForbiddenAddress(reason)
    return make_socket(info)


def make_socket(info: AddrInfoType) -> socket.socket:
    """Return a socket that detects lost packets within seconds, as far as the operating system supports it."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_USER_TIMEOUT", TCP_USER_TIMEOUT_MS),
    ):
        if option := getattr(socket, name, None):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made

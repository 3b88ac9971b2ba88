"""Create the sockets of outbound connections, and check the address of each."""

from __future__ import annotations

import socket

from aiohttp import AddrInfoType

from .addresses import describe_reserved
from .guard import ForbiddenAddress

#: Milliseconds that sent data may stay unacknowledged. Below the default deadline of a call, so that there is time to
#: send a request again that was sent on a kept connection which the network has dropped.
TCP_USER_TIMEOUT_MS = 5_000
#: Seconds of silence before the kernel sends the first keep-alive probe, and between two probes.
KEEPALIVE_IDLE_SECONDS, KEEPALIVE_INTERVAL_SECONDS = 10, 5


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

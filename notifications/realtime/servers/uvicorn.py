"""What the app has to know of uvicorn, which closes WebSockets and waits for open responses before it tells anybody."""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

#: Seconds of silence after which the kernel asks a client whether it is there, between two such questions, and how
#: many of them remain without an answer.
PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}


def running() -> Any | None:
    """Return the uvicorn server of this process, None if it is another one: it is who gets SIGTERM."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if type(server).__module__ == "uvicorn.server" else None


def bound_protocols(server: Any) -> None:
    """Let the server use ``BoundedHttp`` and ``BoundedWebSocket`` for the connections that follow.

    They replace the classes that they extend; where the server was told to use others (``--http``, ``--ws``), those
    stay.
    """
    if getattr(server.config.http_protocol_class, "__name__", "") == "HttpToolsProtocol":
        from notifications.realtime.servers.uvicorn_bodies import BoundedHttp

        server.config.http_protocol_class = BoundedHttp
    if getattr(server.config.ws_protocol_class, "__name__", "") == "WebSocketsSansIOProtocol":
        from notifications.realtime.servers.uvicorn_frames import BoundedWebSocket

        server.config.ws_protocol_class = BoundedWebSocket


def probe_silent_clients(server: Any) -> None:
    """Have the kernel end connections of clients that are gone, where uvicorn waits for ever for a first request."""
    # Connections inherit the options of the socket that accepts them, on Linux.
    for listening in [made for part in getattr(server, "servers", ()) for made in part.sockets]:
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in PROBES.items():
                if option := getattr(socket, name, None):
                    listening.setsockopt(socket.IPPROTO_TCP, option, value)


def call_before_shutdown(server: Any, farewell: Callable[[], Awaitable]) -> None:
    """Await ``farewell()`` before the server closes its connections."""
    shutdown = server.shutdown

    async def say_farewell_first(*args: Any, **kwargs: Any) -> None:
        await farewell()
        await shutdown(*args, **kwargs)

    server.shutdown = say_farewell_first

"""Adapters for uvicorn, which closes WebSockets and waits for open responses before it tells applications to stop.

All private names of uvicorn that the app uses are in the modules ``uvicorn*`` of this folder.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from notifications.realtime.servers.fallbacks import has_methods, log_fallback

#: TCP keepalive: seconds of silence before the first probe, seconds between probes, and probes without an answer.
KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}


def running_server() -> Any | None:
    """Return the uvicorn server of this process, which handles SIGTERM, or None for another server."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if type(server).__module__ == "uvicorn.server" else None


def use_bounded_protocols(server: Any) -> None:
    """Let the server use ``BoundedHttp`` and ``UvicornWebSocket`` for new connections.

    They replace only the classes that they extend, not those of other implementations (``--http``, ``--ws``).
    """
    http_class = getattr(server.config, "http_protocol_class", None)
    if getattr(http_class, "__name__", "") == "HttpToolsProtocol":
        from notifications.realtime.servers.uvicorn_http import BoundedHttp

        methods = ("data_received", "on_body", "on_message_complete")
        if has_methods(http_class, methods, "Chunks of bodies are not joined on this uvicorn: %s"):
            server.config.http_protocol_class = BoundedHttp
    websocket_class = getattr(server.config, "ws_protocol_class", None)
    if getattr(websocket_class, "__name__", "") == "WebSocketsSansIOProtocol":
        from notifications.realtime.servers.uvicorn_websocket import UvicornWebSocket

        methods = ("data_received", "send_receive_event_to_app", "handle_parser_exception")
        if has_methods(websocket_class, methods, "WebSocket frames are not limited on this uvicorn: %s"):
            server.config.ws_protocol_class = UvicornWebSocket


def probe_silent_clients(server: Any) -> None:
    """Let the kernel end connections of clients that are gone, because uvicorn waits forever for a first request."""
    # On Linux, accepted connections inherit the options of the listening socket.
    for listening in [made for part in getattr(server, "servers", ()) for made in part.sockets]:
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE_OPTIONS.items():
                if option := getattr(socket, name, None):
                    listening.setsockopt(socket.IPPROTO_TCP, option, value)


def call_before_shutdown(server: Any, close_clients: Callable[[], Awaitable[Any]]) -> None:
    """Await ``close_clients()`` before the server closes its connections."""
    shutdown = getattr(server, "shutdown", None)
    if not callable(shutdown):
        log_fallback(
            "Clients are disconnected without a reason at shutdown on this uvicorn: %s", "no shutdown()."
        )
        return

    async def close_clients_first(*args: Any, **kwargs: Any) -> None:
        await close_clients()
        await shutdown(*args, **kwargs)

    server.shutdown = close_clients_first

"""Adapters for uvicorn, which closes WebSockets and waits for open responses before it requests applications to stop.

All private names of uvicorn that the app uses are in the modules ``uvicorn*`` of this folder.

Encoded frames are written directly to the transports of WebSockets. On the ordinary way each connection encodes each
frame again, in a task of its own; direct writes make a push to many sockets a third cheaper. Before they are used both
ways are compared; if they differ, frames go the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from notifications.realtime.servers import has_methods, log_fallback
from notifications.realtime.servers.websocket_frames import PROBE_SIZES, encode_text_frame

#: TCP keepalive: seconds of silence before the first probe, seconds between probes, and probes without an answer.
KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
#: The class for which direct writes are made.
PROTOCOL = "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol"

_can_write_directly: dict[type, bool] = {}


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


def writer_of(send: Any) -> Callable[[bytes], bool] | None:
    """Return a function that writes a frame to the open WebSocket of this ASGI ``send``.

    It returns False if the frame must go the ordinary way, because the connection is closing or has data buffered.
    Returns None if all frames must: with another server, compression, or a uvicorn that failed the comparison.
    """
    protocol: Any = getattr(send, "__self__", None)
    if _uvicorn_class(type(protocol)) is None or not can_write_directly(type(protocol)):
        return None
    return None if protocol.conn.extensions else _make_writer(protocol)


def unsent_counter_of(send: Any) -> Callable[[], int] | None:
    """Return a function that counts the bytes that this server keeps for the WebSocket of this ASGI ``send``.

    Returns None for another server.
    """
    protocol: Any = getattr(send, "__self__", None)
    if _uvicorn_class(type(protocol)) is None:
        return None
    count: Callable[[], int] | None = getattr(protocol.transport, "get_write_buffer_size", None)
    return count


def check_direct_writes(server: Any) -> None:
    """Compare both ways when a uvicorn server starts, so that a fallback is logged then."""
    if protocol_class := server.config.ws_protocol_class:
        can_write_directly(protocol_class)


def can_write_directly(protocol_class: type) -> bool:
    """Return whether a direct write sends the same bytes as this uvicorn class. If not, log why, once."""
    if protocol_class not in _can_write_directly:
        problem = _find_problem(protocol_class)
        if problem:
            log_fallback("WebSocket frames are not written directly on this uvicorn: %s", problem)
        _can_write_directly[protocol_class] = not problem
    return _can_write_directly[protocol_class]


def _make_writer(protocol: Any) -> Callable[[bytes], bool]:
    transport = protocol.transport
    is_closing, buffered_bytes, write_data = (
        transport.is_closing,
        transport.get_write_buffer_size,
        transport.write,
    )

    def write(frame: bytes) -> bool:
        # With a slow client the ordinary way waits, which bounds the buffer; a direct write would not.
        if is_closing() or buffered_bytes() or protocol.close_sent:
            return False
        write_data(frame)
        return True

    return write


def _find_problem(protocol_class: type) -> str | None:
    known_class = _uvicorn_class(protocol_class) or protocol_class
    name = f"{known_class.__module__}.{known_class.__qualname__}"
    if name != PROTOCOL:
        return f"its protocol is {name}, not {PROTOCOL}."
    try:
        return _compare(protocol_class)
    except Exception as exc:  # another version may differ in any way
        return repr(exc)


def _uvicorn_class(protocol_class: type) -> type | None:
    """Return the class of uvicorn that this class is or extends, or None for another server's."""
    return next((base for base in protocol_class.__mro__ if base.__module__.startswith("uvicorn.")), None)


def _compare(protocol_class: Any) -> str | None:
    """Send messages both ways on an open connection without a network. Returns how the bytes differ, or None."""
    from websockets.protocol import OPEN
    from websockets.server import ServerProtocol

    protocol: Any = protocol_class.__new__(protocol_class)
    protocol.transport = transport = _RecordingTransport()
    protocol.conn = ServerProtocol(state=OPEN)
    protocol.writable = asyncio.Event()
    protocol.writable.set()
    protocol.handshake_complete, protocol.initial_response = True, None
    protocol.close_sent = protocol.disconnected = False
    if protocol.conn.extensions:
        return "its protocol has extensions before a handshake."
    write = _make_writer(protocol)
    for size in PROBE_SIZES:
        text = "x" * size
        _run_without_waiting(protocol.send({"type": "websocket.send", "text": text}))
        ordinary = transport.take()
        write(encode_text_frame(text.encode()))
        if (direct := transport.take()) != ordinary:
            return f"a text of {size} bytes is sent as {ordinary[:16]!r}, not as {direct[:16]!r}."
    return None


def _run_without_waiting(coroutine: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise RuntimeError("send() waits although the transport takes everything.")


class _RecordingTransport:
    def __init__(self) -> None:
        self.data = b""

    def take(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def write(self, data: bytes) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

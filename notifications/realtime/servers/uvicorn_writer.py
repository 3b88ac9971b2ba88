"""Write encoded frames directly to the transports of uvicorn's WebSockets.

On the ordinary way each connection encodes each frame again, in a task of its own; direct writes make a push to many
sockets a third cheaper. Before they are used both ways are compared; if they differ, frames go the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from notifications.realtime.servers.fallbacks import log_fallback
from notifications.realtime.servers.websocket_frames import encode_text_frame

#: The class for which this module is written.
PROTOCOL = "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol"
#: Sizes in bytes of the messages that are compared: each kind of frame header (RFC 6455, section 5.2).
PROBE_SIZES = (1, 125, 126, 65_535, 65_536)

_is_supported: dict[type, bool] = {}


def writer_of(send: Any) -> Callable[[bytes], bool] | None:
    """Return a function that writes a frame to the open WebSocket of this ASGI ``send``.

    It returns False if the frame must go the ordinary way, because the connection is closing or has data buffered.
    Returns None if all frames must: with another server, compression, or a uvicorn that failed the comparison.
    """
    protocol: Any = getattr(send, "__self__", None)
    if _uvicorn_class(type(protocol)) is None or not is_supported(type(protocol)):
        return None
    return None if protocol.conn.extensions else _make_writer(protocol)


def check(server: Any) -> None:
    """Compare both ways when a uvicorn server starts, so that a fallback is logged then."""
    if protocol_class := server.config.ws_protocol_class:
        is_supported(protocol_class)


def is_supported(protocol_class: type) -> bool:
    """Return whether a direct write sends the same bytes as this uvicorn class. If not, log why, once."""
    if protocol_class not in _is_supported:
        problem = _find_problem(protocol_class)
        if problem:
            log_fallback("WebSocket frames are not written directly on this uvicorn: %s", problem)
        _is_supported[protocol_class] = not problem
    return _is_supported[protocol_class]


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
    """A transport that keeps what is written."""

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

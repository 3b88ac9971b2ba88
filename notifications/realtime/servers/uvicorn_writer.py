"""A direct way to the WebSockets of uvicorn: a frame that is encoded once is given to the transport of each socket.

On the ordinary way each socket encodes each frame anew, in a task of its own. This is the only file that knows the
protocol class of uvicorn. Both ways are compared before the direct one is used; it is not used if anything differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from notifications.realtime.servers.websocket_frames import encode_text_frame

logger = logging.getLogger(__name__)

#: The class that this file was written for.
PROTOCOL = "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol"
#: Sizes of texts that are compared, of each kind of header.
PROBE_SIZES = (1, 125, 126, 65_535, 65_536)

_problems: dict[type, str | None] = {}


def writer_of(send: Any) -> Callable[[bytes], bool] | None:
    """Return a function that writes a WebSocket frame to the open socket of this ``send`` at once, or returns False
    where it must go the ordinary way. None where that is always so: another server, compression, another uvicorn."""
    protocol: Any = getattr(send, "__self__", None)
    if _uvicorn_class(type(protocol)) is None or not is_supported(type(protocol)):
        return None
    return None if protocol.conn.extensions else _writer(protocol)


def check(server: Any) -> None:
    """Compare both ways when a uvicorn server starts, so that its log says then which one frames take."""
    if protocol_class := server.config.ws_protocol_class:
        is_supported(protocol_class)


def is_supported(protocol_class: type) -> bool:
    """Return whether the sockets of this class of uvicorn can be written to directly; the log says why not, once."""
    if protocol_class not in _problems:
        _problems[protocol_class] = problem = _find_problem(protocol_class)
        if problem:
            logger.warning("WebSocket frames are not written directly on this uvicorn: %s", problem)
    return _problems[protocol_class] is None


def _writer(protocol: Any) -> Callable[[bytes], bool]:
    transport = protocol.transport
    is_closing, buffered_bytes, give = transport.is_closing, transport.get_write_buffer_size, transport.write

    def write(frame: bytes) -> bool:
        # What a slow client leaves in the buffer is bounded on the ordinary way, which waits while there is too much.
        if is_closing() or buffered_bytes() or protocol.close_sent:
            return False
        give(frame)
        return True

    return write


def _find_problem(protocol_class: type) -> str | None:
    """Return how sockets of this class differ from what is expected; None if they do not."""
    known = _uvicorn_class(protocol_class) or protocol_class
    name = f"{known.__module__}.{known.__qualname__}"
    if name != PROTOCOL:
        return f"its protocol is {name}, not {PROTOCOL}."
    try:
        return _compare(protocol_class)
    except Exception as exc:  # another version may differ in any way
        return repr(exc)


def _uvicorn_class(protocol_class: type) -> type | None:
    """Return the class of uvicorn that this one is or extends (``uvicorn_frames`` does); None for another server's."""
    return next((base for base in protocol_class.__mro__ if base.__module__.startswith("uvicorn.")), None)


def _compare(protocol_class: Any) -> str | None:
    """Send the same texts both ways on an open socket without a network."""
    from websockets.protocol import OPEN
    from websockets.server import ServerProtocol

    probe: Any = protocol_class.__new__(protocol_class)
    probe.transport = transport = _Recorder()
    probe.conn = ServerProtocol(state=OPEN)
    probe.writable = asyncio.Event()
    probe.writable.set()
    probe.handshake_complete, probe.initial_response = True, None
    probe.close_sent = probe.disconnected = False
    if probe.conn.extensions:
        return "its protocol has extensions before a handshake."
    write = _writer(probe)
    for size in PROBE_SIZES:
        text = "x" * size
        _run(probe.send({"type": "websocket.send", "text": text}))
        ordinary = transport.take()
        write(encode_text_frame(text.encode()))
        if (direct := transport.take()) != ordinary:
            return f"a text of {size} bytes is sent as {ordinary[:16]!r}, not as {direct[:16]!r}."
    return None


def _run(coroutine: Coroutine) -> None:
    """Run a coroutine that must not wait."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise RuntimeError("send() waits although the transport takes everything.")


class _Recorder:
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

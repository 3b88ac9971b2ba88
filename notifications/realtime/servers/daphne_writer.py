"""Write encoded frames directly to the sockets of Daphne's WebSockets.

The ordinary way is over half of the cost of a push: for each message, autobahn formats lines for a debug log that is
not written, and Twisted asks the kernel twice whether the socket is writable, which takes three times as long as the
write. Before the first direct write both ways are compared; if they differ, frames go the ordinary way.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from notifications.realtime.servers.daphne import server_of
from notifications.realtime.servers.fallbacks import log_fallback
from notifications.realtime.servers.websocket_frames import encode_text_frame

#: Sizes in bytes of the messages that are compared: each kind of frame header (RFC 6455, section 5.2).
PROBE_SIZES = (1, 125, 126, 65_535, 65_536)


def writer_of(send: Any) -> Callable[[bytes], bool] | None:
    """Return a function that writes a frame to the open WebSocket of this ASGI ``send``.

    It returns False if the frame must go the ordinary way, because the connection is closing or has data buffered.
    Returns None if all frames must: with another server, TLS, compression, a lost connection, or a Daphne that failed
    the comparison.
    """
    if server_of(send) is None:
        return None
    try:
        (protocol,) = send.args
        transport = protocol.transport
        is_plain_tcp = type(transport).__module__ == "twisted.internet.tcp" and not transport.TLS
        if not is_plain_tcp or protocol._perMessageCompress or not is_supported():
            return None
        if not transport.connected:  # the client has disconnected, and Twisted has deleted the socket
            return None
        write = _make_writer(protocol, transport)
        write(b"")  # writes nothing, but uses every attribute that a frame needs
    except (AttributeError, ValueError) as exc:
        _log(repr(exc))
        return None
    return write


@functools.cache
def is_supported() -> bool:
    """Return whether a direct write sends the same bytes as the installed Daphne. If not, log why, once."""
    try:
        problem = _compare()
    except Exception as exc:  # another version may differ in any way
        problem = repr(exc)
    if problem:
        _log(problem)
    return not problem


def _log(reason: str) -> None:
    log_fallback("WebSocket frames are not written directly on this Daphne: %s", reason)


def _make_writer(protocol: Any, transport: Any) -> Callable[[bytes], bool]:
    send, is_open = transport.socket.send, protocol.STATE_OPEN

    def write(frame: bytes) -> bool:
        if (
            protocol.state != is_open
            or transport.dataBuffer
            or transport._tempDataBuffer
            or protocol.send_queue
            or transport.disconnecting
            or not transport.connected
        ):
            return False
        try:
            written = send(frame)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:  # the connection is lost; Twisted notices it on the ordinary way
            return False
        if written < len(frame):
            transport.write(frame[written:])
        return True

    return write


def _compare() -> str | None:
    """Send messages both ways through a socket pair. Returns how the bytes differ, or None."""
    from autobahn.websocket.protocol import WebSocketProtocol
    from daphne.ws_protocol import WebSocketFactory
    from twisted.internet.tcp import Connection

    server_end, client_end = socket.socketpair()
    with server_end, client_end:
        server_end.setblocking(False)
        client_end.setblocking(False)
        factory: Any = WebSocketFactory(None)
        factory.setProtocolOptions(openHandshakeTimeout=0)
        protocol = factory.protocol()
        protocol.factory, protocol.peer = factory, "comparison"
        reactor: Any = _IdleReactor()
        protocol.transport = transport = Connection(server_end, protocol, reactor)
        transport.connected = True
        WebSocketProtocol._connectionMade(protocol)
        protocol.state = protocol.STATE_OPEN
        write = _make_writer(protocol, transport)
        for size in PROBE_SIZES:
            payload = b"x" * size
            protocol.sendMessage(payload, False)
            ordinary = _receive(transport, client_end)
            if not write(encode_text_frame(payload)):
                return "an idle connection refuses direct writes."
            if (direct := _receive(transport, client_end)) != ordinary:
                return f"a message of {size} bytes is sent as {ordinary[:16]!r}, not as {direct[:16]!r}."
    return None


def _receive(transport: Any, client_end: socket.socket) -> bytes:
    """Write what the transport has buffered, and return all bytes that arrive."""
    received = b""
    while True:
        if transport.dataBuffer or transport._tempDataBuffer:
            transport.doWrite()
        try:
            received += client_end.recv(65_536)
        except BlockingIOError:
            if not (transport.dataBuffer or transport._tempDataBuffer):
                return received


class _IdleReactor:
    """A reactor for a transport that is written to by hand."""

    def addReader(self, reader: Any) -> None: ...

    def addWriter(self, writer: Any) -> None: ...

    def removeReader(self, reader: Any) -> None: ...

    def removeWriter(self, writer: Any) -> None: ...

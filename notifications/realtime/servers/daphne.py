"""Adapters for what Daphne does not notify applications of, and for what it does at each handshake and at shutdown.

All private names of Daphne, autobahn and Twisted that the app uses are in the modules ``daphne*`` of this folder.

Encoded frames are written directly to the sockets of WebSockets. The ordinary way is over half of the cost of a push:
for each message, autobahn formats lines for a debug log that is not written, and Twisted asks the kernel twice whether
the socket is writable, which takes three times as long as the write. Before the first direct write both ways are
compared; if they differ, frames go the ordinary way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from notifications.realtime.servers import log_fallback
from notifications.realtime.servers.websocket_frames import PROBE_SIZES, encode_text_frame

logger = logging.getLogger("notifications")

#: Seconds for a client to answer a close.
CLOSE_TIMEOUT_SECONDS = 5
#: The modules of the WebSocket classes whose options can be shared.
PROTOCOL_MODULES = ("daphne.ws_protocol", "notifications.realtime.servers.daphne_protocols")


def server_of(send: Any) -> Any | None:
    """Return the Daphne server that this ASGI ``send`` belongs to, or None for another server."""
    server = getattr(getattr(send, "func", None), "__self__", None)
    return server if type(server).__module__ == "daphne.server" else None


def with_server_root_path(scope: dict[str, Any], server: Any) -> dict[str, Any]:
    """Return the scope with the root path of the server's configuration.

    Daphne takes it from the request header ``Daphne-Root-Path``, so a client could prefix every link of a response.
    """
    if scope.get("root_path") == server.root_path:
        return scope
    return {**scope, "root_path": server.root_path}


class ResponseFlow:
    """Whether the client has read what was written of a response: Twisted calls it, as an ``IPushProducer``."""

    def __init__(self) -> None:
        self.may_write = asyncio.Event()
        self.may_write.set()

    def pauseProducing(self) -> None:
        self.may_write.clear()

    def resumeProducing(self) -> None:
        self.may_write.set()

    def stopProducing(self) -> None:
        self.may_write.set()


def with_backpressure(send: Any) -> Any:
    """Return the ``send`` of an HTTP request, whose responses of a known length are written as the client reads them.

    Daphne keeps in memory what a client has not read: all of a download that its server reads faster. Streams without a
    length, such as those of events, are not changed.
    """
    (request,) = send.args
    flow: ResponseFlow | None = None

    async def send_slowly(message: dict[str, Any]) -> None:
        nonlocal flow
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if has_length and request.channel:
                flow = ResponseFlow()
                request.registerProducer(flow, True)
        elif flow and request.channel and not message.get("more_body", False):
            request.unregisterProducer()
            flow = None
        await send(message)
        if flow:
            await flow.may_write.wait()

    return send_slowly


def use_bounded_protocols() -> None:
    """Limit requests and frames for every application that Daphne serves in this process."""
    try:
        from notifications.realtime.servers import daphne_protocols
    except (ImportError, AttributeError) as exc:
        log_fallback("Requests and frames are not limited on this Daphne: %s", repr(exc))
    else:
        daphne_protocols.install()


def extend_close_timeout(send: Any) -> None:
    """Give the client 5 s to answer a close.

    Daphne resets the connection after 1 s, on a busy machine even before the close frame is written. Without its code
    a client reconnects when it should not.
    """
    if server_of(send) is None:
        return
    try:
        (protocol,) = send.args
        protocol.closeHandshakeTimeout = CLOSE_TIMEOUT_SECONDS
    except (AttributeError, ValueError) as exc:
        log_fallback("Could not extend the close timeout on this Daphne: %s", repr(exc))


def share_options(send: Any) -> None:
    """Make the next WebSockets of this server share autobahn's options as class attributes.

    Otherwise each connection copies all of them and formats them for a debug log that is not written, which is a
    quarter of the cost of a handshake. Nothing changes if Twisted's log is written (``-v 2``).
    """
    server: Any = server_of(send)
    if server is None:
        return
    try:
        factory = server.ws_factory
        protocol = factory.protocol
        if protocol.__module__ not in PROTOCOL_MODULES or server.verbosity > 1:  # shared already, or logged
            return
        options = {name: getattr(factory, name) for name in protocol.CONFIG_ATTRS}
    except (AttributeError, TypeError) as exc:
        log_fallback("WebSockets do not share their options on this Daphne: %s", repr(exc))
        return
    # A plain function would become a method of the class.
    attributes = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    attributes |= {"CONFIG_ATTRS": (), "__module__": __name__}
    factory.protocol = type(protocol.__name__, (protocol,), attributes)


def call_before_shutdown(server: Any, close_clients: Callable[[], Awaitable[Any]]) -> None:
    """Await ``close_clients()`` before Daphne cancels its applications and closes its connections."""
    from twisted.internet import reactor as installed_reactor
    from twisted.internet.defer import Deferred

    reactor: Any = installed_reactor  # a module that gets its attributes when a reactor is installed
    cancel_applications = _take_cancellation(reactor, server)

    async def shut_down() -> None:
        await close_clients()
        if cancel_applications:
            # Raises for the first connection that has become a WebSocket (Daphne 4.2); those are closed by now.
            try:
                await cancel_applications().asFuture(asyncio.get_running_loop())
            except Exception as exc:
                logger.debug("Could not cancel the applications of Daphne: %r", exc)

    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromFuture(asyncio.ensure_future(shut_down()))
    )


def _take_cancellation(reactor: Any, server: Any) -> Callable[[], Any] | None:
    """Remove the trigger by which Daphne cancels its applications at shutdown, and return the function it calls."""
    try:
        trigger: tuple[Any, ...] = ("before", server.kill_all_applications, (), {})
        reactor.removeSystemEventTrigger(("shutdown", trigger))
    except (AttributeError, ValueError, KeyError) as exc:
        log_fallback("Waiting requests are cancelled at shutdown on this Daphne: %s", repr(exc))
        return None
    return server.kill_all_applications


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
        if not is_plain_tcp or protocol._perMessageCompress or not can_write_directly():
            return None
        if not transport.connected:  # the client has disconnected, and Twisted has deleted the socket
            return None
        write = _make_writer(protocol, transport)
        write(b"")  # writes nothing, but uses every attribute that a frame needs
    except (AttributeError, ValueError) as exc:
        _log(repr(exc))
        return None
    return write


def unsent_counter_of(send: Any) -> Callable[[], int] | None:
    """Return a function that counts the bytes that this server keeps for the WebSocket of this ASGI ``send``.

    Over TLS these are those that are encrypted already. Returns None for another server.
    """
    if server_of(send) is None:
        return None
    try:
        (protocol,) = send.args
        transport = protocol.transport
        transport.dataBuffer, transport.offset, transport._tempDataLen  # noqa: B018 (another version may not have them)
    except (AttributeError, ValueError) as exc:
        log_fallback("Acknowledgments of unsent frames are not refused on this Daphne: %s", repr(exc))
        return None
    return lambda: len(transport.dataBuffer) - transport.offset + transport._tempDataLen


@functools.cache
def can_write_directly() -> bool:
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
    def addReader(self, reader: Any) -> None: ...

    def addWriter(self, writer: Any) -> None: ...

    def removeReader(self, reader: Any) -> None: ...

    def removeWriter(self, writer: Any) -> None: ...

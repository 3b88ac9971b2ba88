"""What the app has to know of Daphne, which tells applications neither of its root path nor of its end.

And a short way to its sockets: on the ordinary one, autobahn formats lines of debugging with colours that nobody reads,
for each handshake and message, and Twisted asks the kernel twice when it may write, which costs three times the write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

#: Seconds for a client to answer a close.
CLOSE_TIMEOUT_SECONDS = 5
#: Where the classes of WebSockets are whose options can be shared.
SOCKET_MODULES = ("daphne.ws_protocol", "notifications.realtime.servers.daphne_requests")


def server_of(send: Any) -> Any | None:
    """Return Daphne's server object that ``send`` of a request belongs to; None where the server is another one."""
    server = getattr(getattr(send, "func", None), "__self__", None)
    return server if type(server).__module__ == "daphne.server" else None


def with_server_root_path(scope: dict, server: Any) -> dict:
    """Return the scope with the server's own root path: Daphne takes it from a header of the request,
    ``Daphne-Root-Path``, and every link of the answer would begin with what a client has put there."""
    if scope.get("root_path") == server.root_path:
        return scope
    return {**scope, "root_path": server.root_path}


def extend_close_timeout(send: Any) -> None:
    """Give the client of this ``send`` 5 s to answer a close. Daphne resets the connection after 1 s, on a busy machine
    even before the close was written; without its code a client comes back where it must not."""
    if server_of(send) is not None:
        with contextlib.suppress(AttributeError, ValueError):
            (protocol,) = send.args
            protocol.closeHandshakeTimeout = CLOSE_TIMEOUT_SECONDS


def share_options(send: Any) -> None:
    """Give the WebSockets that follow on the server of this ``send`` a class that has autobahn's options.

    Otherwise each connection copies all of them, and formats them for a line of debugging that nobody reads: a quarter
    of what a handshake costs. Not where Twisted's log is read, nor on a Daphne built otherwise.
    """
    server: Any = server_of(send)
    factory: Any = getattr(server, "ws_factory", None)
    protocol: Any = getattr(factory, "protocol", None)
    if getattr(protocol, "__module__", "") not in SOCKET_MODULES:  # another server, or it is done
        return
    with contextlib.suppress(AttributeError, TypeError):
        if server.verbosity > 1:
            return
        options = {name: getattr(factory, name) for name in protocol.CONFIG_ATTRS}
        # A function of a class would be a method.
        kept = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
        factory.protocol = type(
            protocol.__name__, (protocol,), {**kept, "CONFIG_ATTRS": (), "__module__": __name__}
        )


def writer_of(send: Any) -> Callable[[bytes], bool] | None:
    """Return a function that writes a frame to the open WebSocket of this ``send`` at once, or returns False where it
    must go the ordinary way. None where that is always so: another server, TLS, compression, a Daphne built otherwise.
    """
    if server_of(send) is None:
        return None
    try:
        (protocol,) = send.args
        transport = protocol.transport
        if (
            protocol._perMessageCompress
            or transport.TLS
            or type(transport).__module__ != "twisted.internet.tcp"
        ):
            return None
        write = _writer(protocol, transport)
        write(b"")  # nothing, but it needs all that a frame needs
    except (AttributeError, ValueError):
        return None
    return write


def _writer(protocol: Any, transport: Any) -> Callable[[bytes], bool]:
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
            return False  # closing, or something waits to be written before
        try:
            written = send(frame)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:  # the connection is lost: Twisted ends it on the ordinary way
            return False
        if written < len(frame):
            transport.write(frame[written:])
        return True

    return write


def call_before_shutdown(server: Any, farewell: Callable[[], Awaitable]) -> None:
    """Await ``farewell()`` before Daphne cancels its applications and closes its connections."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed  # a module whose attributes come when it is installed
    cancelling = _cancelling_first(reactor, server)

    async def end() -> None:
        await farewell()
        if cancelling:
            # It fails over the first connection that has become a WebSocket (Daphne 4.2): those are closed by now.
            with contextlib.suppress(Exception):
                await cancelling().asFuture(asyncio.get_running_loop())

    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromFuture(asyncio.ensure_future(end()))
    )


def _cancelling_first(reactor: Any, server: Any) -> Callable[[], Any] | None:
    """Take Daphne's cancelling of everything out of what Twisted does at its end, and return it."""
    trigger: tuple = ("before", server.kill_all_applications, (), {})
    try:
        reactor.removeSystemEventTrigger(("shutdown", trigger))
    except (AttributeError, ValueError, KeyError):  # another Daphne has it elsewhere
        return None
    return server.kill_all_applications

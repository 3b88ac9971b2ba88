"""Adapters for what Daphne does not tell applications, and for what it does at each handshake and at shutdown.

All private names of Daphne, autobahn and Twisted that the app uses are in the modules ``daphne*`` of this folder.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from notifications.realtime.servers.fallbacks import log_fallback

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
            with contextlib.suppress(Exception):
                await cancel_applications().asFuture(asyncio.get_running_loop())

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

"""What the app has to know of Daphne, which tells applications neither of its root path nor of its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


def server_of(send: Any) -> Any | None:
    """Return Daphne's server object that ``send`` of a request belongs to; None where the server is another one."""
    server = getattr(getattr(send, "func", None), "__self__", None)
    return server if type(server).__module__ == "daphne.server" else None


def with_its_root_path(scope: dict, server: Any) -> dict:
    """Return the scope with the server's own root path: Daphne takes it from a header of the request,
    ``Daphne-Root-Path``, and every link of the answer would begin with what a client has put there."""
    if scope.get("root_path") == server.root_path:
        return scope
    return {**scope, "root_path": server.root_path}


def before_its_end(farewell: Callable[[], Awaitable]) -> None:
    """Await ``farewell()`` before Daphne closes its connections.

    It means to cancel all applications then, but fails over the first connection that has none, such as any that became
    a WebSocket (Daphne 4.2).
    """
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed  # a module whose attributes come when it is installed

    def wait() -> Deferred:
        return Deferred.fromFuture(asyncio.ensure_future(farewell()))

    reactor.addSystemEventTrigger("before", "shutdown", wait)

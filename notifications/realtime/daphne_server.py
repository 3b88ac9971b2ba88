"""What the app has to know of Daphne, which tells applications neither of its root path nor of its end."""

from __future__ import annotations

import asyncio
import contextlib
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


def before_its_end(server: Any, farewell: Callable[[], Awaitable]) -> None:
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

"""The WebSocket endpoint: handshake, authentication, then messages in and frames out until one side closes.

A plain ASGI application, because a Channels consumer hops to a thread that all consumers share for each message. It
works in Channels' URLRouter, with or without AuthMiddlewareStack around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from typing import Any

from django.core.handlers.asgi import ASGIRequest

from notifications import paths
from notifications.db.unavailable import log_retried
from notifications.realtime import close_reasons
from notifications.realtime.auth.handshakes import is_origin_allowed, log_refused_origin
from notifications.realtime.auth.sessions import cookie_session_key, is_session_of
from notifications.realtime.close_reasons import Bye
from notifications.realtime.hub import Hub, current_hub
from notifications.realtime.servers import Receive, Scope, Send, daphne, uvicorn
from notifications.realtime.transports.websocket import CLOSE_TIMEOUT_SECONDS, Socket

logger = logging.getLogger(__name__)

SUBPROTOCOL = "notifications.v1"
#: Seconds for the last frames to leave when the server cancels the connection.
FLUSH_TIMEOUT_SECONDS = 1.0


async def notifications_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket with the subprotocol ``notifications.v1``."""
    if (await receive())["type"] != "websocket.connect":
        return
    # A call of its own, so that no object of the handshake stays alive for the length of the connection.
    if socket := await _accept(scope, receive, send):
        await _serve(socket, receive)


async def _accept(scope: Scope, receive: Receive, send: Send) -> Socket | None:
    daphne.share_options(send)
    request = _build_request(scope)
    subprotocols = scope.get("subprotocols") or []
    has_foreign_subprotocols = subprotocols and SUBPROTOCOL not in subprotocols
    origins = _header_values(scope, b"origin")
    if not (is_allowed := is_origin_allowed(origins, request)):
        log_refused_origin(origins, request)
    if not is_allowed or has_foreign_subprotocols:
        await send({"type": "websocket.close", "code": close_reasons.FORBIDDEN_CODE})
        return None
    daphne.extend_close_timeout(send)
    hub = current_hub()
    user, session_key, bye = await _authenticate(hub, scope, request)
    if bye is None and not paths.is_page_of(scope.get("query_string", b"").decode("latin-1"), user):
        bye = close_reasons.SIGNED_OUT
    # Accepted even if refused: a browser does not see the HTTP status of a refused handshake.
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if subprotocols else None})
    if bye is None:
        write = daphne.writer_of(send) or uvicorn.writer_of(send)
        count_unsent = daphne.unsent_counter_of(send) or uvicorn.unsent_counter_of(send)
        socket = Socket(hub, user, session_key, send, write, count_unsent)
        bye = hub.join(socket)
    if bye is not None:
        await _refuse(bye, receive, send)
        return None
    return socket


async def _serve(socket: Socket, receive: Receive) -> None:
    try:
        while (message := await receive())["type"] == "websocket.receive":
            socket.receive(message.get("text"), message.get("bytes"))
    except asyncio.CancelledError:
        if socket.is_closed:  # the client did not answer the close in time
            return
        # Daphne is stopping. It cancels all applications at once, without another signal.
        socket.close(close_reasons.GOING_AWAY)
        if socket.send_task:
            await asyncio.wait([socket.send_task], timeout=FLUSH_TIMEOUT_SECONDS)
        raise
    finally:
        socket.is_closed = True
        socket.hub.leave(socket)
        if socket.send_task:
            socket.send_task.cancel()


async def _refuse(bye: Bye, receive: Receive, send: Send) -> None:
    """Close an accepted connection that has not joined the hub, and wait until it ends."""
    await send({"type": "websocket.send", "text": bye.encode()})
    await send({"type": "websocket.close", "code": bye.code})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            while (await receive())["type"] != "websocket.disconnect":
                pass


async def _authenticate(hub: Hub, scope: Scope, request: ASGIRequest) -> tuple[Any, str | None, Bye | None]:
    try:
        if "user" in scope:  # set by the project's middleware
            return await _authenticate_by_middleware(hub, scope)
        session_key = cookie_session_key(request)
        user = await hub.session_lookup.resolve(session_key)
    except Exception as exc:  # session stores and authentication backends raise errors of their own
        log_retried(logger, "Could not authenticate a WebSocket", exc)
        return None, None, close_reasons.DATABASE_UNAVAILABLE
    return user, session_key, None if user is not None else close_reasons.SIGNED_OUT


async def _authenticate_by_middleware(hub: Hub, scope: Scope) -> tuple[Any, str | None, Bye | None]:
    user = scope["user"]
    if user is None or not user.is_authenticated or not user.is_active:
        return None, None, close_reasons.SIGNED_OUT
    session_key = getattr(scope.get("session"), "session_key", None)
    if session_key and await hub.session_lookup.resolve(session_key) != user.pk:
        if is_session_of(scope["session"], user):  # the session has ended since the middleware read it
            return None, None, close_reasons.SIGNED_OUT
        # Signed in another way, perhaps by a token: this connection does not depend on the session.
        session_key = None
    return user.pk, session_key, None


def _build_request(scope: Scope) -> ASGIRequest:
    """Return the handshake as a Django request, which applies the settings for hosts, proxies and cookies."""
    scheme = {"wss": "https", "https": "https"}.get(scope.get("scheme", "ws"), "http")
    # Without a body. Of some types Django raises an error.
    headers = [header for header in scope.get("headers", ()) if header[0].lower() != b"content-type"]
    http = {"type": "http", "method": "GET", "scheme": scheme, "query_string": b"", "headers": headers}
    return ASGIRequest({**scope, **http}, io.BytesIO())


def _header_values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope.get("headers", ()) if key.lower() == name]

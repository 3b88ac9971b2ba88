"""The WebSocket: handshake, who it is, then messages in and frames out until one side ends it.

A plain ASGI application rather than a Channels consumer: that one hops to the thread shared by all with every message.
It works in Channels' URLRouter, with or without AuthMiddlewareStack around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from typing import Any

from django.core.handlers.asgi import ASGIRequest

from notifications.realtime import close_reasons, hub
from notifications.realtime.auth import page_user
from notifications.realtime.auth.origin import is_allowed
from notifications.realtime.auth.sessions import says_who_it_is, session_key
from notifications.realtime.close_reasons import Bye
from notifications.realtime.servers import daphne, uvicorn_writer
from notifications.realtime.transports.websocket import CLOSE_TIMEOUT_SECONDS, Socket

logger = logging.getLogger(__name__)

SUBPROTOCOL = "notifications.v1"


async def notifications_socket(scope, receive, send) -> None:
    """Serve one WebSocket with the protocol ``notifications.v1``."""
    if (await receive())["type"] != "websocket.connect":
        return
    # Apart, so that nothing of the handshake is kept as long as the connection.
    if subscriber := await _authenticate(scope, receive, send):
        await _serve(subscriber, receive)


async def _authenticate(scope, receive, send) -> Socket | None:
    daphne.share_options(send)
    request = _request(scope)
    offered = scope.get("subprotocols") or []
    if not is_allowed(_values(scope, b"origin"), request) or (offered and SUBPROTOCOL not in offered):
        await send({"type": "websocket.close", "code": 4403})
        return None
    daphne.extend_close_timeout(send)
    here = hub.current_hub()
    user, session, bye = await _who(here, scope, request)
    if bye is None and not page_user.is_meant(scope.get("query_string", b"").decode("latin-1"), user):
        bye = close_reasons.SIGNED_OUT
    # Accepted in any case: a browser cannot see the status of a handshake that is refused.
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if offered else None})
    if bye is None:
        write = daphne.writer_of(send) or uvicorn_writer.writer_of(send)
        subscriber = Socket(here, user, session, send, write)
        bye = here.join(subscriber)
    if bye is not None:
        await _send_bye(bye, receive, send)
        return None
    return subscriber


async def _serve(subscriber: Socket, receive) -> None:
    try:
        while (message := await receive())["type"] == "websocket.receive":
            subscriber.receive(message.get("text"), message.get("bytes"))
    except asyncio.CancelledError:
        if subscriber.closed:  # it did not answer the close in time
            return
        # Daphne is stopping: it cancels everything at once, and has no other way to say so.
        subscriber.close(close_reasons.GOING_AWAY)
        if subscriber.sender:
            await asyncio.wait([subscriber.sender], timeout=1)
        raise
    finally:
        subscriber.closed = True
        subscriber.hub.leave(subscriber)
        if subscriber.sender:
            subscriber.sender.cancel()


async def _send_bye(bye: Bye, receive, send) -> None:
    """Say goodbye to somebody who was never let in, and wait for the end of the connection."""
    await send({"type": "websocket.send", "text": bye.frame()})
    await send({"type": "websocket.close", "code": bye.code})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            while (await receive())["type"] != "websocket.disconnect":
                pass


async def _who(here: hub.Hub, scope, request: ASGIRequest) -> tuple[Any, str | None, Bye | None]:
    """Return who it is, the key of the session that says so, and the goodbye for whom nobody knows."""
    try:
        if "user" in scope:  # by the project's own middleware
            return await _user_from_middleware(here, scope)
        session = session_key(request)
        user = await here.door.who(session)
    except Exception as exc:  # session stores and backends have errors of their own
        logger.warning("It could not be found out who is signed in: %s", exc)
        return None, None, close_reasons.DATABASE_UNAVAILABLE
    return user, session, None if user is not None else close_reasons.SIGNED_OUT


async def _user_from_middleware(here: hub.Hub, scope) -> tuple[Any, str | None, Bye | None]:
    user = scope["user"]
    if user is None or not user.is_authenticated or not user.is_active:
        return None, None, close_reasons.SIGNED_OUT
    session = getattr(scope.get("session"), "session_key", None)
    if session and await here.door.who(session) != user.pk:
        if says_who_it_is(scope["session"], user):  # it has ended since the middleware read it
            return None, None, close_reasons.SIGNED_OUT
        # By a token perhaps: then the end of a session says nothing about this socket.
        session = None
    return user.pk, session, None


def _request(scope) -> ASGIRequest:
    """The handshake as Django sees requests, for what settings say about hosts, proxies and cookies."""
    scheme = {"wss": "https", "https": "https"}.get(scope.get("scheme", "ws"), "http")
    return ASGIRequest(
        {**scope, "type": "http", "method": "GET", "scheme": scheme, "query_string": b""}, io.BytesIO()
    )


def _values(scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope.get("headers", ()) if key.lower() == name]

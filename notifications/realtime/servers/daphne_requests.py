"""Requests and WebSocket frames on Daphne, for every application that it serves in this process.

Daphne and Twisted read a body whole before an application is called, parse the forms in it on the event loop although
Django does so again, and read 64 KiB of a connection in one turn of the loop, which may hold 10,000 frames or chunks.
This module imports Daphne: import it only where that is installed.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from daphne import http_protocol, ws_protocol
from twisted.web.http import HTTPChannel

from notifications.problems import Problem
from notifications.realtime.servers.websocket_frames import FrameCounter
from notifications.request_limits import LINGER_SECONDS, body_too_large, is_too_large, refusal

logger = logging.getLogger("notifications")

#: Bytes of a connection that are read in one turn of the event loop, where each may be a frame or chunk of its own.
READ_BYTES = 4096
#: The least and the most for bodies in chunks, by the size of these. Twisted reads the most.
MIN_READ_BYTES, MAX_READ_BYTES = 1024, 64 * 1024
#: Bytes of a body that the application receives at once from the file on disk.
BODY_CHUNK_BYTES = 64 * 1024

Receive = Callable[[], Awaitable[dict[str, Any]]]


def install() -> None:
    """Let Daphne use the classes of this module for the connections that follow."""
    http_protocol.WebRequest = BoundedRequest
    ws_protocol.WebSocketFactory.protocol = BoundedWebSocket


class BoundedRequest(http_protocol.WebRequest):
    """A request whose form is left to Django, and whose body is bounded and stays on disk until it is asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsePOSTFormSubmission = False  # the class's own value is overwritten by __init__
        self.content: Any
        self.body: Any = None  # the file of a large body
        self.received_bytes = 0
        self.pieces = self.recent_bytes = 0  # of a body in chunks
        self.is_http_1 = isinstance(self.channel, HTTPChannel)  # of HTTP/2 it is a stream without a transport
        self.is_chunked = False
        self.problem: Problem | None = None  # why it is refused
        self.lingering: Any = None  # the timer that closes the connection then

    def gotLength(self, length: int | None) -> None:
        """The headers are there, but of HTTP/2 perhaps not all yet. ``length`` is None for a body in chunks."""
        super().gotLength(length)
        if not self.is_http_1:
            return
        self.is_chunked = length is None
        if self.is_chunked:
            self.channel.transport.bufferSize = READ_BYTES
        if problem := self._problem(length):
            self.refuse(problem)

    def handleContentChunk(self, data: bytes) -> None:
        if self.problem:
            return
        self.received_bytes += len(data)
        if self.is_chunked:
            self._adapt_reads(len(data))
        if is_too_large(self.received_bytes):
            self.refuse(body_too_large())
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.is_http_1:
            if self.problem:  # it is answered
                return
            vars(self.channel.transport).pop("bufferSize", None)
        super().requestReceived(command, path, version)

    def process(self) -> Any:
        if not self.is_http_1 and (problem := self.problem or self._problem(self.received_bytes)):
            self._answer(problem)
            return None
        for name in (b"Sec-WebSocket-Protocol", b"Daphne-Root-Path"):
            if not all(value.isascii() for value in self.requestHeaders.getRawHeaders(name, ())):
                self.basic_error(400, b"Bad Request", f"Invalid {name.decode()}")  # Daphne answers 500
                return None
        if not isinstance(self.content, io.BytesIO):
            # Daphne would read all of it into the queue of the application.
            self.body, self.content = self.content, io.BytesIO()
            if not isinstance(self.server.application, BodiesFromDisk):
                self.server.application = BodiesFromDisk(self.server.application)
        return super().process()

    def refuse(self, problem: Problem) -> None:
        """Answer before the body is there, discard what comes of it, and close.

        HTTP/2 is answered once the body has ended: the connection is for other requests too.
        """
        self.problem = problem
        if not self.is_http_1:
            return
        channel: Any = self.channel
        self.requestHeaders.removeHeader(b"Expect")  # Twisted would answer it with 100 Continue
        response = problem.response()
        head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n".encode()
        response["Content-Length"] = str(len(response.content))
        response["Connection"] = "close"
        channel.transport.write(head + response.serialize_headers() + b"\r\n\r\n" + response.content)
        if (
            not channel.isSecure()
        ):  # TLS has no such end of one direction, and what was written still waits in it
            channel.transport.loseWriteConnection()
        channel.dataReceived = lambda data: None
        self.lingering = channel.callLater(LINGER_SECONDS, channel.transport.abortConnection)

    def connectionLost(self, reason: Any) -> None:
        if self.lingering and self.lingering.active():
            self.lingering.cancel()
        super().connectionLost(reason)

    def _answer(self, problem: Problem) -> None:
        response = problem.response()
        headers = [(name.encode(), value.encode("latin-1")) for name, value in response.items()]
        headers = [(name, value) for name, value in headers if name.lower() != b"connection"]
        self.handle_reply({"type": "http.response.start", "status": response.status_code, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": response.content})

    def _adapt_reads(self, size: int) -> None:
        """Read in one turn of the loop about 64 pieces of a body in chunks: few bytes where each is a chunk."""
        self.pieces += 1
        self.recent_bytes += size
        if self.pieces % 64 == 0:
            self.channel.transport.bufferSize = min(max(self.recent_bytes, MIN_READ_BYTES), MAX_READ_BYTES)
            self.recent_bytes = 0

    def _problem(self, length: int | None) -> Problem | None:
        upgrades = self.requestHeaders.getRawHeaders(b"Upgrade", ())
        if length != 0 and any(value.lower() == b"websocket" for value in upgrades[:1]):
            return Problem(400, "A WebSocket handshake has no body. Send it without one.")
        return refusal(
            (name.lower(), value)
            for name, values in self.requestHeaders.getAllRawHeaders()
            for value in values
        )


class BodiesFromDisk:
    """An ASGI application that receives large bodies in pieces, from the file in which Twisted has put them."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict, receive: Receive, send: Any) -> None:
        (protocol,) = send.args
        body = getattr(protocol, "body", None)
        if body is None:
            await self.application(scope=scope, receive=receive, send=send)
            return
        with body:
            await self.application(scope=scope, receive=_receive_from(body, receive), send=send)


def _receive_from(body: Any, receive: Receive) -> Receive:
    body.seek(0)
    has_more = True

    async def receive_body() -> dict[str, Any]:
        nonlocal has_more
        if has_more:
            await asyncio.sleep(
                0
            )  # reading from disk does not wait: others have their turn between two pieces
            data = body.read(BODY_CHUNK_BYTES)
            has_more = len(data) == BODY_CHUNK_BYTES
            return {"type": "http.request", "body": data, "more_body": has_more}
        while (message := await receive())["type"] == "http.request":
            pass  # Daphne's own, of the empty content
        return message

    return receive_body


class BoundedWebSocket(ws_protocol.WebSocketProtocol):
    """A WebSocket that is dropped when it sends more frames than any client needs."""

    def makeConnection(self, transport: Any) -> None:
        transport.bufferSize = READ_BYTES
        self.frame_counter = FrameCounter()
        super().makeConnection(transport)

    def onFrameBegin(self) -> None:
        super().onFrameBegin()
        is_closing = self.state != self.STATE_OPEN
        frame = self.current_frame
        if not self.frame_counter.allows(frame.opcode, frame.length, is_closing=is_closing):
            logger.info("Dropped a WebSocket that sent too many frames: %s", self.peer)
            self.wasClean, self.wasNotCleanReason = False, "too many frames"
            self.dropConnection(abort=True)

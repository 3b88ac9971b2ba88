"""Limit HTTP requests and WebSocket frames on Daphne, for every application that it serves in this process.

Before it calls an application, Daphne reads the whole body into memory (850 MB for a body of 60 MB), and Twisted parses
forms on the event loop (over a second for 1 MB of separators), which Django does again. In one turn of the loop Twisted
reads 64 KiB of a connection, which may hold 10,000 frames or chunks. Import this module only where Daphne is installed.
"""

from __future__ import annotations

import asyncio
import io
import logging
from typing import Any

from daphne import http_protocol, ws_protocol
from twisted.web.http import HTTPChannel

from notifications.problems import Problem
from notifications.realtime.servers import Receive, has_methods
from notifications.realtime.servers.request_limits import (
    LINGER_SECONDS,
    body_too_large,
    is_too_large,
    refusal,
)
from notifications.realtime.servers.websocket_frames import FrameCounter

logger = logging.getLogger("notifications")

#: Bytes that are read from a connection in one turn of the event loop. Every few bytes may be a frame or chunk.
READ_BYTES = 4096
#: Limits of the same for chunked bodies, for which it is adapted to the size of the chunks. Twisted reads the maximum.
MIN_READ_BYTES, MAX_READ_BYTES = 1024, 64 * 1024
#: Chunks of a body after which it is adapted, and that are read in one turn.
CHUNKS_PER_READ = 64
#: Bytes of a body in one message to the application, read from the file on disk.
BODY_CHUNK_BYTES = 64 * 1024


def install() -> None:
    """Let Daphne use ``BoundedRequest`` and ``DaphneWebSocket`` for new connections."""
    methods = ["gotLength", "handleContentChunk", "requestReceived", "process"]
    if has_methods(http_protocol.WebRequest, methods, "Requests are not limited on this Daphne: %s"):
        http_protocol.WebRequest = BoundedRequest
    methods = ["makeConnection", "onFrameBegin", "dropConnection"]
    if has_methods(
        ws_protocol.WebSocketProtocol, methods, "WebSocket frames are not limited on this Daphne: %s"
    ):
        ws_protocol.WebSocketFactory.protocol = DaphneWebSocket


class BoundedRequest(http_protocol.WebRequest):
    """A request whose forms are left to Django, and whose body is limited and stays on disk until it is read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsePOSTFormSubmission = False  # __init__ overwrites the class attribute
        self.content: Any
        self.body_file: Any = None  # of a large body
        self.received_bytes = 0
        self.chunks = self.recent_bytes = 0  # of a chunked body
        self.is_http_1 = isinstance(
            self.channel, HTTPChannel
        )  # with HTTP/2 it is a stream without a transport
        self.is_chunked = False
        self.problem: Problem | None = None  # the reason to refuse it
        self.abort_timer: Any = None  # aborts the connection of a refused request

    def gotLength(self, length: int | None) -> None:
        """Called after the headers, with HTTP/2 perhaps before the last ones. ``length`` is None for a chunked body."""
        super().gotLength(length)
        if not self.is_http_1:
            return
        self.is_chunked = length is None
        if self.is_chunked:
            self.channel.transport.bufferSize = READ_BYTES
        if problem := self._find_problem(length):
            self.refuse(problem)

    def handleContentChunk(self, data: bytes) -> None:
        if self.problem:
            return
        self.received_bytes += len(data)
        if self.is_chunked:
            self._adapt_read_size(len(data))
        if is_too_large(self.received_bytes):
            self.refuse(body_too_large())
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.is_http_1:
            if self.problem:  # already answered
                return
            vars(self.channel.transport).pop("bufferSize", None)
        super().requestReceived(command, path, version)

    def process(self) -> Any:
        if not self.is_http_1 and (problem := self.problem or self._find_problem(self.received_bytes)):
            self._answer(problem)
            return None
        for name in (b"Sec-WebSocket-Protocol", b"Daphne-Root-Path"):
            if not all(value.isascii() for value in self.requestHeaders.getRawHeaders(name, ())):
                self.basic_error(400, b"Bad Request", f"Invalid {name.decode()}")  # Daphne would answer 500
                return None
        if not isinstance(self.content, io.BytesIO):
            # Daphne would put all of it into the application's queue.
            self.body_file, self.content = self.content, io.BytesIO()
            if not isinstance(self.server.application, BodyFromDisk):
                self.server.application = BodyFromDisk(self.server.application)
        return super().process()

    def refuse(self, problem: Problem) -> None:
        """Answer before the body has arrived, discard the rest of it, and close the connection.

        An HTTP/2 request is answered after its body, because its connection serves other requests too.
        """
        self.problem = problem
        if not self.is_http_1:
            return
        channel: Any = self.channel
        self.requestHeaders.removeHeader(b"Expect")  # Twisted would answer 100 Continue
        response = problem.response()
        head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n".encode()
        response["Content-Length"] = str(len(response.content))
        response["Connection"] = "close"
        channel.transport.write(head + response.serialize_headers() + b"\r\n\r\n" + response.content)
        if not channel.isSecure():  # TLS cannot be closed in one direction, and may still buffer the response
            channel.transport.loseWriteConnection()
        channel.dataReceived = lambda data: None
        self.abort_timer = channel.callLater(LINGER_SECONDS, channel.transport.abortConnection)

    def connectionLost(self, reason: Any) -> None:
        if self.abort_timer and self.abort_timer.active():
            self.abort_timer.cancel()
        super().connectionLost(reason)

    def _answer(self, problem: Problem) -> None:
        response = problem.response()
        headers = [(name.encode(), value.encode("latin-1")) for name, value in response.items()]
        headers = [(name, value) for name, value in headers if name.lower() != b"connection"]
        self.handle_reply({"type": "http.response.start", "status": response.status_code, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": response.content})

    def _adapt_read_size(self, chunk_bytes: int) -> None:
        """Read about 64 chunks in one turn of the loop, which are few bytes if the chunks are tiny."""
        self.chunks += 1
        self.recent_bytes += chunk_bytes
        if self.chunks % CHUNKS_PER_READ == 0:
            self.channel.transport.bufferSize = min(max(self.recent_bytes, MIN_READ_BYTES), MAX_READ_BYTES)
            self.recent_bytes = 0

    def _find_problem(self, length: int | None) -> Problem | None:
        upgrades = self.requestHeaders.getRawHeaders(b"Upgrade", ())
        if length != 0 and any(value.lower() == b"websocket" for value in upgrades[:1]):
            return Problem(400, "A WebSocket handshake has no body. Send it without one.")
        return refusal(
            (name.lower(), value)
            for name, values in self.requestHeaders.getAllRawHeaders()
            for value in values
        )


class BodyFromDisk:
    """An ASGI application that receives a large body in parts, from the file to which Twisted has written it."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        (protocol,) = send.args
        body_file = getattr(protocol, "body_file", None)
        if body_file is None:
            await self.application(scope=scope, receive=receive, send=send)
            return
        with body_file:
            await self.application(scope=scope, receive=_receive_from(body_file, receive), send=send)


def _receive_from(body_file: Any, receive: Receive) -> Receive:
    body_file.seek(0)
    has_more = True

    async def receive_body() -> dict[str, Any]:
        nonlocal has_more
        if has_more:
            await asyncio.sleep(0)  # reads from disk block, so let other connections run between two of them
            data = body_file.read(BODY_CHUNK_BYTES)
            has_more = len(data) == BODY_CHUNK_BYTES
            return {"type": "http.request", "body": data, "more_body": has_more}
        while (message := await receive())["type"] == "http.request":
            pass  # Daphne's message with the empty content
        return message

    return receive_body


class DaphneWebSocket(ws_protocol.WebSocketProtocol):
    """A WebSocket that is dropped when it exceeds the limits of ``FrameCounter``.

    After the server's close it is not dropped, because that would discard the close with what else is not sent yet.
    """

    #: autobahn's second is too short for a client that first reads what was sent before the close.
    closeHandshakeTimeout = LINGER_SECONDS
    is_discarding = False

    def makeConnection(self, transport: Any) -> None:
        transport.bufferSize = READ_BYTES
        self.frame_counter = FrameCounter()
        super().makeConnection(transport)

    def onFrameBegin(self) -> None:
        super().onFrameBegin()
        if self.is_discarding:
            return
        is_closing = self.state != self.STATE_OPEN
        frame = self.current_frame
        if not self.frame_counter.allows(frame.opcode, frame.length, is_closing=is_closing):
            logger.info("Dropped a WebSocket that sent too many frames: %s", self.peer)
            self.wasClean, self.wasNotCleanReason = False, "too many frames"
            if is_closing:
                self.discard_input()
            else:
                self.dropConnection(abort=True)

    def discard_input(self) -> None:
        """Send what is buffered, and read what the client sends without looking at it, until the close times out."""
        self.is_discarding = True
        self.dataReceived = lambda data: None
        if hasattr(self.transport, "loseWriteConnection"):  # not with TLS
            self.transport.loseWriteConnection()

"""Server-Sent Events: a response with one event per frame, named after the frame's op.

There are no acknowledgments, and Daphne buffers without limit, so a response ends after a number of bytes. A client
that does not read costs no more than these; any other one reconnects with the id of its last event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from notifications.realtime import close_reasons, frames
from notifications.realtime.close_reasons import Bye
from notifications.realtime.subscriber import Follower, HubProtocol, Subscriber

#: Seconds between two comments, which keep the connection open in proxies.
COMMENT_INTERVAL_SECONDS = 15.0
#: Seconds for which a stream without a session is sent before the user is authenticated again.
MAX_UNCONFIRMED_SECONDS = 30.0
#: Milliseconds after which a browser reconnects.
RECONNECT_MS = 3000
#: Seconds for the client to read the rest of an ended response, and of one that ended with a bye.
DRAIN_TIMEOUT_SECONDS = 60.0
BYE_TIMEOUT_SECONDS = 5.0


class EventStream(Subscriber):
    """``stream()`` is the body of one response."""

    #: Limits of a response. The event that exceeds the bytes is the last one.
    max_response_bytes = 256 * 1024
    max_response_seconds = 300.0

    def __init__(self, hub: HubProtocol, follower: Follower) -> None:
        """The response to one without a session and an authenticator ends after 30 s: the project checks the next."""
        super().__init__(hub, follower.user, follower.session_key)
        now = hub.loop.time()
        self.is_accepted = follower.is_accepted
        self.is_unconfirmed = False
        self.pending_chunks: deque[bytes] = deque()
        self.total_bytes = 0
        self.next_comment_at = now + COMMENT_INTERVAL_SECONDS
        self.end_at = now + self.max_response_seconds
        if follower.session_key is None and follower.is_accepted is None:
            self.end_at = min(self.end_at, now + MAX_UNCONFIRMED_SECONDS)
        self.has_chunks = asyncio.Event()

    def stream(self, epoch: str | None, seq: int | None) -> AsyncGenerator[bytes]:
        """Yield the events after a position until the response ends. None for either begins with a snapshot."""

        def begin() -> None:
            self.start_at(epoch, seq)
            self.hub.catch_up(self)

        return self._stream(begin)

    async def _stream(self, begin: Callable[[], None]) -> AsyncGenerator[bytes]:
        """Yield events until the response ends. ``begin`` is called when the hub has accepted the subscriber."""
        self.task = asyncio.current_task()
        bye = self.hub.join(self)
        try:
            if bye is None:
                begin()
            else:
                self.close(bye)
            yield b"retry: %d\n\n" % RECONNECT_MS
            while self.pending_chunks or not self.is_closed:
                if self.pending_chunks:
                    yield self.pending_chunks.popleft()
                else:
                    self.has_chunks.clear()
                    await self.has_chunks.wait()
        finally:
            self._leave()

    def deliver(self, frame: frames.Frame) -> bool:
        if self.is_closed:
            return False
        id = "" if frame.seq is None else f"id: {self.epoch}:{frame.seq}\n"
        self._append(f"event: {frame.op}\n{id}data: {frames.encode_unnumbered(frame)}\n\n")
        self._end_if_large()
        return True

    def handle_tick(self, now: float) -> None:
        """Send a comment when one is due and nothing else is pending, and ask again whether the client is accepted.

        End the response after 5 minutes, or if that question has not been answered since the comment before.
        """
        if now >= self.end_at:
            self.end()
        elif now >= self.next_comment_at:
            self.next_comment_at = now + COMMENT_INTERVAL_SECONDS
            if self.is_unconfirmed:
                self.end()
                return
            if not self.pending_chunks:
                self._append(":\n\n")
            if self.is_accepted is not None:
                self.is_unconfirmed = True
                self.hub.check_credentials(self.user)

    def end(self) -> None:
        """End the response after what is pending, without a bye: the client reconnects."""
        if not self.is_closed:
            self._end(DRAIN_TIMEOUT_SECONDS)

    def close(self, bye: Bye) -> None:
        if self.is_closed:
            return
        if bye is close_reasons.SIGNED_OUT:
            self.pending_chunks.clear()  # pending events must not reach a client that is signed out
        self._append(f"event: bye\ndata: {bye.encode()}\n\n")
        self._end(BYE_TIMEOUT_SECONDS)

    def _append(self, text: str) -> None:
        self._append_bytes(text.encode())

    def _append_bytes(self, chunk: bytes) -> None:
        self.total_bytes += len(chunk)
        self.pending_chunks.append(chunk)
        self.has_chunks.set()

    def _end_if_large(self) -> None:
        if self.total_bytes > self.max_response_bytes:
            self.end()

    def _leave(self) -> None:
        self.is_closed = True
        self.hub.leave(self)

    def _end(self, timeout: float) -> None:
        self._leave()
        self.has_chunks.set()
        # A client that does not read the rest, down to the end of the response, must not keep the connection.
        timer = self.hub.loop.call_later(timeout, self.task.cancel)
        self.task.add_done_callback(lambda task: timer.cancel())

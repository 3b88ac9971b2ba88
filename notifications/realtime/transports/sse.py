"""A client at a stream of Server-Sent Events: one event a frame, named after its op.

There are no acks, and Daphne takes whatever it is given, so a response ends after so many bytes: a client that does not
read costs no more than these, and one that does comes back by itself with the id of the last event it has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from notifications.realtime import close_reasons, frames
from notifications.realtime.close_reasons import Bye
from notifications.realtime.subscriber import Subscriber

if TYPE_CHECKING:
    from notifications.realtime.hub import Hub

#: Bytes and seconds of a response. The event that passes the bytes is the last one.
RESPONSE_BYTES = 256 * 1024
RESPONSE_SECONDS = 300.0
#: Seconds between two comments, which keep the connection alive.
COMMENT = 15.0
#: Milliseconds after which a browser comes back.
RETRY = 3000
#: Seconds for a client to take the rest of an ended response, and of one with a bye.
REST_WITHIN = 60.0
BYE_WITHIN = 5.0


class EventStream(Subscriber):
    """``events()`` is the body of one response."""

    __slots__ = ("comment_at", "end_at", "out", "size", "timer", "woken")

    def __init__(self, hub: Hub, user: Any, session: str | None) -> None:
        super().__init__(hub, user, session)
        now = hub.loop.time()
        self.out: deque[bytes] = deque()  # what waits for the server to take it
        self.size = 0
        self.comment_at = now + COMMENT
        self.end_at = now + RESPONSE_SECONDS
        self.woken = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None

    async def events(self, epoch: str | None, seq: int | None) -> AsyncGenerator[bytes]:
        """Yield what follows a position, or (None) a snapshot and what follows that, until the response ends."""
        self.task = asyncio.current_task()
        bye = self.hub.join(self)
        try:
            if bye is None:
                self.begin(epoch, seq)
                self.hub.read_up(self)
            else:
                self.close(bye)
            yield b"retry: %d\n\n" % RETRY
            while self.out or not self.closed:
                if self.out:
                    yield self.out.popleft()
                else:
                    self.woken.clear()
                    await self.woken.wait()
        finally:
            self.closed = True
            self.hub.leave(self)
            if self.timer:
                self.timer.cancel()

    def deliver(self, frame: frames.Frame) -> bool:
        if self.closed:
            return False
        id = "" if frame.seq is None else f"id: {self.epoch}:{frame.seq}\n"
        self._put(f"event: {frame.op}\n{id}data: {frames.unnumbered(frame)}\n\n")
        if self.size > RESPONSE_BYTES:
            self._end(REST_WITHIN)
        return True

    def check_times(self, now: float) -> None:
        """Comment when it is time, unless something else waits to leave; end after 5 minutes."""
        if now >= self.end_at:
            self._end(REST_WITHIN)
        elif now >= self.comment_at:
            self.comment_at += COMMENT
            if not self.out:
                self._put(":\n\n")

    def close(self, bye: Bye) -> None:
        if self.closed:
            return
        if bye is close_reasons.SIGNED_OUT:
            self.out.clear()  # nobody is there any more to whom it might be told
        self._put(f"event: bye\ndata: {bye.frame()}\n\n")
        self._end(BYE_WITHIN)

    def _put(self, text: str) -> None:
        data = text.encode()
        self.size += len(data)
        self.out.append(data)
        self.woken.set()

    def _end(self, within: float) -> None:
        self.closed = True
        self.hub.leave(self)
        self.woken.set()
        # A client that does not take the rest must not keep its place.
        self.timer = self.hub.loop.call_later(within, self.task.cancel)

"""A client at a WebSocket: what was sent and not acked, what it may send, and the order in which things leave.

What cannot leave now stays within bounds, and a client that does not keep up is read up from its position once it has
acked.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from random import randrange
from typing import TYPE_CHECKING, Any

from notifications.realtime import close_reasons, frames
from notifications.realtime.close_reasons import Bye, Refused
from notifications.realtime.servers.framing import websocket_frame
from notifications.realtime.subscriber import Subscriber, start
from notifications.realtime.transports.incoming import parse

if TYPE_CHECKING:
    from notifications.realtime.hub import Hub

#: Sent and not acked at most.
WINDOW_FRAMES = 64
WINDOW_BYTES = 256 * 1024
#: An ack is asked for with every so many frames or bytes, and late after so many seconds.
MAX_FRAMES_BETWEEN_ACKS = 16
MAX_BYTES_BETWEEN_ACKS = 64 * 1024
ACK_TIMEOUT_SECONDS = 30.0
HELLO_TIMEOUT_SECONDS = 10.0
#: What a client may send within so many seconds.
RATE_SECONDS = 10.0
RATE_FRAMES = 60
RATE_SYNCS = 10
#: Seconds for the closing handshake, after which the connection is given up.
CLOSE_TIMEOUT_SECONDS = 5.0


class Socket(Subscriber):
    """``receive()`` what the client sends, ``deliver()`` frames, ``close()`` with a reason."""

    is_socket = True

    __slots__ = (
        "acked_bytes",
        "ask_bytes",
        "ask_n",
        "asked",
        "beat_at",
        "due_by",
        "ends",
        "frames_read",
        "id",
        "n",
        "out",
        "ping",
        "send",
        "sender",
        "sent_bytes",
        "syncs_read",
        "write",
    )

    def __init__(
        self,
        hub: Hub,
        user: Any,
        session: str | None,
        send: Callable[[dict], Awaitable],
        write: Callable[[bytes], bool] | None = None,
    ) -> None:
        """``write``: takes a WebSocket frame at once, past ``send``, or returns False where it cannot."""
        super().__init__(hub, user, session)
        now = hub.loop.time()
        self.send = send
        self.write = write
        self.id = uuid.uuid4().hex
        self.ping = False  # a beat is owed after the first sync
        self.n = 0
        self.sent_bytes = 0
        self.acked_bytes = 0
        self.ends: list[int] = []  # sent_bytes after each frame that is not acked, oldest first
        # The frame, or the bytes, with which an ack is asked for at the latest. At random at first: sockets that all
        # get the same frames must not all ack at once.
        self.ask_n = 1 + randrange(MAX_FRAMES_BETWEEN_ACKS)
        self.ask_bytes = MAX_BYTES_BETWEEN_ACKS
        self.asked: list[tuple[int, float]] = []  # (n, late at) of acks asked for and not there yet
        self.due_by = now + HELLO_TIMEOUT_SECONDS  # for hello, then for the oldest asked ack
        self.beat_at = now + frames.BEAT
        self.frames_read: list[float] = []
        self.syncs_read: list[float] = []
        self.out: list[
            str | int
        ] = []  # texts that wait for the server to take them, then perhaps a close code
        self.sender: asyncio.Task | None = None  # while something waits to leave, which nothing may overtake

    def receive(self, text: str | None, data: bytes | None) -> None:
        """Do what a message of the client says, or close with the reason why not."""
        if self.closed:
            return
        try:
            self._obey(parse(text, data, greeted=self.greeted))
        except Refused as refused:
            self.close(refused.bye)

    def deliver(self, frame: frames.Frame) -> bool:
        """Number a frame and send it, unless the window has no room for it."""
        n = self.n + 1
        sent = self.sent_bytes + frame.size(n)
        if ask := n >= self.ask_n or sent >= self.ask_bytes:
            sent += len(frames.ACK)
        ends = self.ends
        if ends and (len(ends) >= WINDOW_FRAMES or sent - self.acked_bytes > WINDOW_BYTES):
            return False
        self.n = n
        self.sent_bytes = sent
        ends.append(sent)
        if ask:
            self.ask_n, self.ask_bytes = n + MAX_FRAMES_BETWEEN_ACKS, sent + MAX_BYTES_BETWEEN_ACKS
            self.asked.append((n, self.hub.loop.time() + ACK_TIMEOUT_SECONDS))
            self.due_by = self.asked[0][1]
        if self.sender or self.closed or not self.write or not self.write(frame.encoded(n, ask)):
            self._put(frame.text(n, ask))
        return True

    def has_room(self) -> bool:
        ends = self.ends
        return not ends or (len(ends) < WINDOW_FRAMES and self.sent_bytes - self.acked_bytes < WINDOW_BYTES)

    def caught_up(self, versions: Mapping[Any, int]) -> None:
        self.synced = True
        if self.ping:
            self.ping = False
            self.beat()

    def beat(self) -> None:
        """Say where it is, unless the last beat still waits to leave."""
        text = frames.beat(self.pos)
        if not (self.out and self.out[-1] == text):
            self._put(text)

    def close(self, bye: Bye) -> None:
        if self.closed:
            return
        if bye is close_reasons.SIGNED_OUT:
            self.out.clear()  # nobody is there any more to whom it might be told
        self._put(bye.frame())
        self._put(bye.code)
        self.closed = True
        self.hub.leave(self)
        # A client that neither reads nor answers the close must not keep its socket.
        self.hub.loop.call_later(CLOSE_TIMEOUT_SECONDS, self.task.cancel)

    def check_times(self, now: float) -> None:
        """Beat when it is time; close when hello or an ack is late."""
        if now >= self.due_by:
            self.close(close_reasons.TOO_SLOW if self.greeted else close_reasons.NO_HELLO)
        elif now >= self.beat_at:
            self.beat_at += frames.BEAT
            if self.synced:
                self.beat()

    def _obey(self, frame: dict[str, Any]) -> None:
        op = frame["op"]
        if op == "ack" and frame["n"] > self.n:
            raise Refused(close_reasons.BAD_ACK)
        if not (op == "ack" and any(n == frame["n"] for n, _ in self.asked)):
            self._count(self.frames_read, RATE_FRAMES, close_reasons.TOO_MANY_FRAMES)
        if op == "hello":
            self._hello(frame.get("epoch"), frame.get("seq"))
        elif op == "sync":
            self._count(self.syncs_read, RATE_SYNCS, close_reasons.TOO_MANY_SYNCS)
            self._sync(frame["seq"])
        elif op == "ack":
            self._ack(frame["n"])
        elif self.synced:
            self.beat()
        else:
            self.ping = True

    def _hello(self, epoch: str | None, seq: int | None) -> None:
        self.due_by = float("inf")
        self.begin(epoch, seq)
        self.deliver(frames.welcome(self.id))
        self.hub.read_up(self)

    def _sync(self, seq: int) -> None:
        self.pos = seq
        self.owed = True
        self.hub.read_up(self)

    def _ack(self, n: int) -> None:
        new = n - (self.n - len(self.ends))
        if new <= 0:
            return
        self.acked_bytes = self.ends[new - 1]
        del self.ends[:new]
        while self.asked and self.asked[0][0] <= n:
            del self.asked[0]
        self.due_by = self.asked[0][1] if self.asked else float("inf")
        if self.owed:
            self.hub.read_up(self)

    def _count(self, times: list[float], limit: int, bye: Bye) -> None:
        now = self.hub.loop.time()
        while times and times[0] <= now - RATE_SECONDS:
            del times[0]
        if len(times) >= limit:
            raise Refused(bye)
        times.append(now)

    def _put(self, text: str | int) -> None:
        """Hand a text, or a close code, to the server. What it does not take at once is bounded by the window."""
        if self.closed:
            return
        sending = self.sender is not None
        if (
            isinstance(text, str)
            and self.write
            and not sending
            and self.write(websocket_frame(text.encode()))
        ):
            return
        self.out.append(text)
        if not sending:
            task = start(self._send_out())
            self.sender = None if task.done() else task

    async def _send_out(self) -> None:
        try:
            while self.out:
                text = self.out.pop(0)
                if isinstance(text, str):
                    await self.send({"type": "websocket.send", "text": text})
                else:
                    await self.send({"type": "websocket.close", "code": text})
        except Exception:  # each server has its own error for a connection that is gone
            self.closed = True
            self.out.clear()
            self.hub.leave(self)
        finally:
            self.sender = None

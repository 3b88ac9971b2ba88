"""A WebSocket client: flow control by acknowledgments, limits on what it sends, and the order of outgoing frames.

What is pending is bounded. A client that does not keep up is not sent live frames; it is caught up from its position
after its next acknowledgment.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import randrange
from typing import Any

from notifications.realtime import close_reasons, frames
from notifications.realtime.close_reasons import (
    ACK_TIMEOUT_SECONDS,
    HELLO_TIMEOUT_SECONDS,
    RATE_FRAMES,
    RATE_SECONDS,
    RATE_SYNCS,
    Bye,
    ProtocolViolation,
)
from notifications.realtime.servers.websocket_frames import encode_text_frame
from notifications.realtime.subscriber import HubProtocol, Subscriber
from notifications.realtime.transports.incoming import parse_frame

#: Limits on what is sent and not yet acknowledged.
WINDOW_FRAMES = 64
WINDOW_BYTES = 256 * 1024
#: An acknowledgment is requested at the latest after so many frames or bytes, and must arrive within the timeout.
MAX_FRAMES_BETWEEN_ACKS = 16
MAX_BYTES_BETWEEN_ACKS = 64 * 1024
#: Seconds for the closing handshake, after which the connection is dropped.
CLOSE_TIMEOUT_SECONDS = 5.0


class Socket(Subscriber):
    """``receive()`` handles a message of the client, ``deliver()`` sends a frame, ``close()`` closes with a reason."""

    is_socket = True

    __slots__ = (
        "acked_bytes",
        "count_unsent",
        "frame_times",
        "has_pending_ping",
        "id",
        "last_n",
        "next_ack_bytes",
        "next_ack_n",
        "next_beat_at",
        "outbox",
        "requested_acks",
        "send",
        "send_task",
        "sent_bytes",
        "sync_times",
        "timeout_at",
        "unacked_ends",
        "write",
    )

    def __init__(
        self,
        hub: HubProtocol,
        user: Any,
        session_key: str | None,
        send: Callable[[dict[str, Any]], Awaitable[Any]],
        write: Callable[[bytes], bool] | None = None,
        count_unsent: Callable[[], int] | None = None,
    ) -> None:
        """``write`` sends an encoded WebSocket frame past the ASGI ``send``; it returns False if it cannot now.

        ``count_unsent`` returns how many bytes the server keeps, because the client does not read.
        """
        super().__init__(hub, user, session_key)
        now = hub.loop.time()
        self.send = send
        self.write = write
        self.count_unsent = count_unsent
        self.id = uuid.uuid4().hex
        self.has_pending_ping = False  # to be answered after the first sync frame
        self.last_n = 0
        self.sent_bytes = 0
        self.acked_bytes = 0
        # sent_bytes after each frame that is not acknowledged, oldest first.
        self.unacked_ends: list[int] = []
        # The frame number or byte count at which the next ack is requested. The first is random: sockets that get the
        # same frames must not all acknowledge at the same moment.
        self.next_ack_n = 1 + randrange(MAX_FRAMES_BETWEEN_ACKS)
        self.next_ack_bytes = MAX_BYTES_BETWEEN_ACKS
        self.requested_acks: list[tuple[int, float]] = []  # (n, timeout_at) of acks that have not arrived
        self.timeout_at = now + HELLO_TIMEOUT_SECONDS  # for the hello, then for the oldest requested ack
        self.next_beat_at = now + frames.BEAT_INTERVAL_SECONDS
        self.frame_times: list[float] = []
        self.sync_times: list[float] = []
        # Texts that the server has not taken yet, then perhaps a close code.
        self.outbox: list[str | int] = []
        # Runs while the outbox is not empty. Direct writes must not overtake it.
        self.send_task: asyncio.Task[Any] | None = None

    def receive(self, text: str | None, data: bytes | None) -> None:
        """Handle a message of the client. Closes the connection if the message violates the protocol."""
        if self.is_closed:
            return
        try:
            self._handle(parse_frame(text, data, has_hello=self.is_started))
        except ProtocolViolation as violation:
            self.close(violation.bye)

    def deliver(self, frame: frames.Frame) -> bool:
        """Number a frame and send it, unless the window has no room for it."""
        n = self.last_n + 1
        sent_bytes = self.sent_bytes + frame.size(n)
        if needs_ack := n >= self.next_ack_n or sent_bytes >= self.next_ack_bytes:
            sent_bytes += len(frames.ACK)
        ends = self.unacked_ends
        if ends and (len(ends) >= WINDOW_FRAMES or sent_bytes - self.acked_bytes > WINDOW_BYTES):
            return False
        self.last_n = n
        self.sent_bytes = sent_bytes
        ends.append(sent_bytes)
        if needs_ack:
            self.next_ack_n = n + MAX_FRAMES_BETWEEN_ACKS
            self.next_ack_bytes = sent_bytes + MAX_BYTES_BETWEEN_ACKS
            self.requested_acks.append((n, self.hub.loop.time() + ACK_TIMEOUT_SECONDS))
            self.timeout_at = self.requested_acks[0][1]
        if n == 1 and self.write:
            # The welcome waits for the first sync frame, with which it takes one write, or for the next tick.
            self.outbox.append(frame.text(n, needs_ack))
        elif (
            self.outbox
            or self.send_task
            or self.is_closed
            or not self.write
            or not self.write(frame.encoded(n, needs_ack))
        ):
            self._send(frame.text(n, needs_ack))
        return True

    def has_room(self) -> bool:
        ends = self.unacked_ends
        return not ends or (len(ends) < WINDOW_FRAMES and self.sent_bytes - self.acked_bytes < WINDOW_BYTES)

    def handle_synced(self, versions: Mapping[Any, int]) -> None:
        self.is_synced = True
        if self.has_pending_ping:
            self.has_pending_ping = False
            self.beat()

    def beat(self) -> None:
        """Send the position, unless the same beat is still in the outbox."""
        text = frames.beat(self.position)
        if not (self.outbox and self.outbox[-1] == text):
            self._send(text)

    def close(self, bye: Bye) -> None:
        if self.is_closed:
            return
        if bye is close_reasons.SIGNED_OUT:
            self.outbox.clear()  # pending frames must not reach a client that is signed out
        self._send(bye.encode())
        self._send(bye.code)
        self.is_closed = True
        self.hub.leave(self)
        # A client that neither reads nor answers the close must not keep the connection.
        self.hub.loop.call_later(CLOSE_TIMEOUT_SECONDS, self.task.cancel)

    def handle_tick(self, now: float) -> None:
        """Send a beat when one is due, and a welcome that waits. Close when the hello or an acknowledgment is late."""
        if self.outbox:
            self._flush()
        if now >= self.timeout_at:
            self.close(close_reasons.TOO_SLOW if self.is_started else close_reasons.NO_HELLO)
        elif now >= self.next_beat_at:
            self.next_beat_at += frames.BEAT_INTERVAL_SECONDS
            if self.is_synced:
                self.beat()

    def _handle(self, frame: dict[str, Any]) -> None:
        op = frame["op"]
        if op == "ack" and frame["n"] > self.last_n:
            raise ProtocolViolation(close_reasons.BAD_ACK)
        if not (op == "ack" and any(n == frame["n"] for n, _ in self.requested_acks)):
            self._check_rate(self.frame_times, RATE_FRAMES, close_reasons.TOO_MANY_FRAMES)
        if op == "hello":
            self._handle_hello(frame.get("epoch"), frame.get("seq"))
        elif op == "sync":
            self._check_rate(self.sync_times, RATE_SYNCS, close_reasons.TOO_MANY_SYNCS)
            self._handle_sync(frame["seq"])
        elif op == "ack":
            self._handle_ack(frame["n"])
        elif self.is_synced:
            self.beat()
        else:
            self.has_pending_ping = True

    def _handle_hello(self, epoch: str | None, seq: int | None) -> None:
        self.timeout_at = float("inf")
        self.start_at(epoch, seq)
        self.deliver(frames.welcome(self.id))
        self.hub.catch_up(self)

    def _handle_sync(self, seq: int) -> None:
        self.position = seq
        self.needs_sync = True
        self.hub.catch_up(self)

    def _handle_ack(self, n: int) -> None:
        acked = n - (self.last_n - len(self.unacked_ends))
        if acked <= 0:
            return
        end = self.unacked_ends[acked - 1]
        if end > self.sent_bytes - self._count_unsent() + MAX_BYTES_BETWEEN_ACKS:
            raise ProtocolViolation(close_reasons.BAD_ACK)
        self.acked_bytes = end
        del self.unacked_ends[:acked]
        while self.requested_acks and self.requested_acks[0][0] <= n:
            del self.requested_acks[0]
        self.timeout_at = self.requested_acks[0][1] if self.requested_acks else float("inf")
        if self.needs_sync:
            self.hub.catch_up(self)

    def _count_unsent(self) -> int:
        """Return how many bytes have not left this process, with frame headers and beats, which no window counts."""
        kept = sum(len(text) for text in self.outbox if isinstance(text, str))
        return kept + (self.count_unsent() if self.count_unsent else 0)

    def _check_rate(self, times: list[float], limit: int, bye: Bye) -> None:
        now = self.hub.loop.time()
        while times and times[0] <= now - RATE_SECONDS:
            del times[0]
        if len(times) >= limit:
            raise ProtocolViolation(bye)
        times.append(now)

    def _send(self, text: str | int) -> None:
        """Send a text, or close with a code. What the server does not take now is bounded by the window."""
        if not self.is_closed:
            self.outbox.append(text)
            self._flush()

    def _flush(self) -> None:
        """Send what is in the outbox: in one write, or where the server does not take it now, in a task."""
        if self.send_task:
            return
        if (
            self.write
            and isinstance(self.outbox[-1], str)  # not a close code
            and self.write(b"".join(encode_text_frame(str(text).encode()) for text in self.outbox))
        ):
            self.outbox.clear()
            return
        task = start_eagerly(self._send_outbox())
        self.send_task = None if task.done() else task

    async def _send_outbox(self) -> None:
        try:
            while self.outbox:
                text = self.outbox.pop(0)
                if isinstance(text, str):
                    await self.send({"type": "websocket.send", "text": text})
                else:
                    await self.send({"type": "websocket.close", "code": text})
        except Exception:  # each server raises an error of its own when the connection is lost
            self.is_closed = True
            self.outbox.clear()
            self.hub.leave(self)
        finally:
            self.send_task = None


if sys.version_info >= (3, 12):

    def start_eagerly(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)

else:

    def start_eagerly(coroutine: Coroutine) -> asyncio.Task:
        """Run a coroutine as a task."""
        return asyncio.get_running_loop().create_task(coroutine)

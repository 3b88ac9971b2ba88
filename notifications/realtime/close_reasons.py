"""Why the server closes a connection, whether the client should reconnect, and the limits of what it may do."""

from __future__ import annotations

import random
from dataclasses import dataclass

from notifications.serializers import encode_json

#: Limits of what a client of the WebSocket may do. The protocol states them too.
HELLO_TIMEOUT_SECONDS = 10.0
#: From the frame that requests an ack.
ACK_TIMEOUT_SECONDS = 30.0
MAX_CLIENT_FRAME_BYTES = 4096
#: Frames and syncs that a client may send within ``RATE_SECONDS``.
RATE_SECONDS = 10.0
RATE_FRAMES = 60
RATE_SYNCS = 10

#: A handshake that is refused: a page of another origin, or a subprotocol of another application.
FORBIDDEN_CODE = 4403


@dataclass(frozen=True, slots=True)
class Bye:
    """A reason to close: the close code, the ``reason`` for programs, the ``detail`` for people.

    ``reconnect_after_ms`` is the range from which the delay before reconnecting is chosen at random; None means that
    the client should not reconnect.
    """

    code: int
    reason: str
    detail: str
    reconnect_after_ms: tuple[int, int] | None = None

    def encode(self) -> str:
        """Return the bye frame, which is sent before the server closes."""
        delay_ms = random.randint(*self.reconnect_after_ms) if self.reconnect_after_ms else 0
        return encode_json(
            {
                "op": "bye",
                "code": self.code,
                "reason": self.reason,
                "detail": self.detail,
                "reconnect": self.reconnect_after_ms is not None,
                "after_ms": delay_ms,
            }
        )


class ProtocolViolation(Exception):
    """A client sent a frame that ends its connection."""

    def __init__(self, bye: Bye) -> None:
        super().__init__(bye.reason)
        self.bye = bye


RECONNECT_SOON_MS = (500, 5_000)
RECONNECT_LATER_MS = (30_000, 40_000)

GOING_AWAY = Bye(4000, "going_away", "The server is stopping. Reconnect soon.", RECONNECT_SOON_MS)
DATABASE_UNAVAILABLE = Bye(
    4000, "going_away", "The server cannot reach its database. Reconnect soon.", RECONNECT_SOON_MS
)
SIGNED_OUT = Bye(4401, "signed_out", "You are not signed in, or no longer. Sign in and reconnect.")
NO_HELLO = Bye(
    4408, "no_hello", f"The client sent no hello within {HELLO_TIMEOUT_SECONDS:g} seconds.", RECONNECT_SOON_MS
)
TOO_SLOW = Bye(
    4408, "too_slow", f"A requested ack is {ACK_TIMEOUT_SECONDS:g} seconds late.", RECONNECT_SOON_MS
)
TOO_BIG = Bye(4409, "too_big", f"A frame may have at most {MAX_CLIENT_FRAME_BYTES} bytes.")
TOO_MANY_SOCKETS = Bye(
    4429, "too_many_sockets", "This user has too many open connections.", RECONNECT_LATER_MS
)
TOO_MANY_FRAMES = Bye(
    4429,
    "too_many_frames",
    f"A client may send at most {RATE_FRAMES} frames in {RATE_SECONDS:g} seconds.",
    RECONNECT_LATER_MS,
)
TOO_MANY_SYNCS = Bye(
    4429,
    "too_many_syncs",
    f"A client may send at most {RATE_SYNCS} syncs in {RATE_SECONDS:g} seconds.",
    RECONNECT_LATER_MS,
)
BAD_JSON = Bye(4400, "bad_json", "A frame must be a text message of valid JSON.")
NOT_OBJECT = Bye(4400, "not_object", "A frame must be one JSON object.")
BAD_OP = Bye(4400, "bad_op", "The op must be hello (once), sync, ack or ping.")
NOT_HELLO = Bye(4400, "not_hello", "The first frame must be hello.")
BAD_SEQ = Bye(4400, "bad_seq", "seq must be an integer from 0 to 2^53-1.")
BAD_EPOCH = Bye(4400, "bad_epoch", "epoch must be a string or null.")
BAD_ACK = Bye(4400, "bad_ack", "n must be an integer, at most the n of the last frame sent.")

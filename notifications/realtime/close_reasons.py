"""Why the server closes a connection, whether the client should reconnect, and the limits of what it may do."""

from __future__ import annotations

import random
from dataclasses import dataclass

from notifications.serializers import encode

#: Limits of what a client of the WebSocket may do. The protocol states them too.
HELLO_TIMEOUT_SECONDS = 10.0
#: From the frame that requests an ack.
ACK_TIMEOUT_SECONDS = 30.0
MAX_CLIENT_FRAME_BYTES = 4096
#: Frames and syncs that a client may send within ``RATE_SECONDS``.
RATE_SECONDS = 10.0
RATE_FRAMES = 60
RATE_SYNCS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
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
        return encode(
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

GOING_AWAY = Bye(
    code=4000,
    reason="going_away",
    detail="The server is stopping. Reconnect soon.",
    reconnect_after_ms=RECONNECT_SOON_MS,
)
DATABASE_UNAVAILABLE = Bye(
    code=4000,
    reason="going_away",
    detail="The server cannot reach its database. Reconnect soon.",
    reconnect_after_ms=RECONNECT_SOON_MS,
)
SIGNED_OUT = Bye(
    code=4401, reason="signed_out", detail="You are not signed in, or no longer. Sign in and reconnect."
)
NO_HELLO = Bye(
    code=4408,
    reason="no_hello",
    detail=f"The client sent no hello within {HELLO_TIMEOUT_SECONDS:g} seconds.",
    reconnect_after_ms=RECONNECT_SOON_MS,
)
TOO_SLOW = Bye(
    code=4408,
    reason="too_slow",
    detail=f"A requested ack is {ACK_TIMEOUT_SECONDS:g} seconds late.",
    reconnect_after_ms=RECONNECT_SOON_MS,
)
TOO_BIG = Bye(code=4409, reason="too_big", detail=f"A frame may have at most {MAX_CLIENT_FRAME_BYTES} bytes.")
TOO_MANY_SOCKETS = Bye(
    code=4429,
    reason="too_many_sockets",
    detail="This user has too many open connections.",
    reconnect_after_ms=RECONNECT_LATER_MS,
)
TOO_MANY_FRAMES = Bye(
    code=4429,
    reason="too_many_frames",
    detail=f"A client may send at most {RATE_FRAMES} frames in {RATE_SECONDS:g} seconds.",
    reconnect_after_ms=RECONNECT_LATER_MS,
)
TOO_MANY_SYNCS = Bye(
    code=4429,
    reason="too_many_syncs",
    detail=f"A client may send at most {RATE_SYNCS} syncs in {RATE_SECONDS:g} seconds.",
    reconnect_after_ms=RECONNECT_LATER_MS,
)
BAD_JSON = Bye(code=4400, reason="bad_json", detail="A frame must be a text message of valid JSON.")
NOT_OBJECT = Bye(code=4400, reason="not_object", detail="A frame must be one JSON object.")
BAD_OP = Bye(code=4400, reason="bad_op", detail="The op must be hello (once), sync, ack or ping.")
NOT_HELLO = Bye(code=4400, reason="not_hello", detail="The first frame must be hello.")
BAD_SEQ = Bye(code=4400, reason="bad_seq", detail="seq must be an integer from 0 to 2^53-1.")
BAD_EPOCH = Bye(code=4400, reason="bad_epoch", detail="epoch must be a string or null.")
BAD_ACK = Bye(
    code=4400, reason="bad_ack", detail="n must be an integer, at most the n of the last frame sent."
)

"""Why the server ends a connection, and whether the client should come back."""

from __future__ import annotations

import random
from dataclasses import dataclass

from notifications.serializers import encode


@dataclass(frozen=True, kw_only=True, slots=True)
class Bye:
    """An end: close ``code`` and ``reason``, ``detail`` for people, and how long (ms, from and up to) to wait before
    coming back; None: a client should not come back."""

    code: int
    reason: str
    detail: str
    after: tuple[int, int] | None = None

    def frame(self) -> str:
        """Return the frame that is sent before the server closes."""
        wait = random.randint(*self.after) if self.after else 0
        return encode(
            {
                "op": "bye",
                "code": self.code,
                "reason": self.reason,
                "detail": self.detail,
                "reconnect": self.after is not None,
                "after_ms": wait,
            }
        )


class Refused(Exception):
    """What a client sent ends its connection; carries the Bye."""

    def __init__(self, bye: Bye) -> None:
        super().__init__(bye.reason)
        self.bye = bye


RECONNECT_SOON_MS = (500, 5_000)
RECONNECT_LATER_MS = (30_000, 40_000)

GOING_AWAY = Bye(
    code=4000, reason="going_away", detail="The server is stopping. Come back soon.", after=RECONNECT_SOON_MS
)
DATABASE_UNAVAILABLE = Bye(
    code=4000,
    reason="going_away",
    detail="The server cannot be asked now. Come back soon.",
    after=RECONNECT_SOON_MS,
)
SIGNED_OUT = Bye(code=4401, reason="signed_out", detail="Nobody is signed in here, or no longer.")
NO_HELLO = Bye(
    code=4408, reason="no_hello", detail="No hello came within 10 seconds.", after=RECONNECT_SOON_MS
)
TOO_SLOW = Bye(
    code=4408,
    reason="too_slow",
    detail="An ack that was asked for is 30 seconds late.",
    after=RECONNECT_SOON_MS,
)
TOO_BIG = Bye(code=4409, reason="too_big", detail="A frame may have at most 4096 bytes.")
TOO_MANY_SOCKETS = Bye(
    code=4429,
    reason="too_many_sockets",
    detail="This user has too many open connections.",
    after=RECONNECT_LATER_MS,
)
TOO_MANY_FRAMES = Bye(
    code=4429,
    reason="too_many_frames",
    detail="At most 60 frames are read in 10 seconds.",
    after=RECONNECT_LATER_MS,
)
TOO_MANY_SYNCS = Bye(
    code=4429,
    reason="too_many_syncs",
    detail="At most 10 syncs are answered in 10 seconds.",
    after=RECONNECT_LATER_MS,
)
BAD_JSON = Bye(code=4400, reason="bad_json", detail="A frame must be a text frame of JSON.")
NOT_OBJECT = Bye(code=4400, reason="not_object", detail="A frame must be one JSON object.")
BAD_OP = Bye(code=4400, reason="bad_op", detail="The op must be hello (once), sync, ack or ping.")
NOT_HELLO = Bye(code=4400, reason="not_hello", detail="The first frame must be hello.")
BAD_SEQ = Bye(code=4400, reason="bad_seq", detail="seq must be an integer from 0 to 2^53-1.")
BAD_EPOCH = Bye(code=4400, reason="bad_epoch", detail="epoch must be a string or null.")
BAD_ACK = Bye(
    code=4400, reason="bad_ack", detail="n must be an integer, at most the n of the last frame sent."
)

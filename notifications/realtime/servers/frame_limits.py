"""Limits on WebSocket frames that no consumer sees, because they are handled below it: by Daphne or uvicorn."""

from __future__ import annotations

import time

#: Pings and pongs in 10 s. A client that is told to keep its connection alive sends a few a minute.
MAX_CONTROL_FRAMES = 100
CONTROL_FRAMES_SECONDS = 10.0
#: Frames of one message with less than so many bytes, its first one included. Larger ones are bounded by the size that
#: a message may have, by default 1 MiB on Daphne and 16 MiB on uvicorn; many clients send pieces of 4 KiB.
MAX_FRAGMENTS = 1024
MIN_FRAGMENT_BYTES = 1024
#: Data frames after the server has sent its close: what was under way.
MAX_FRAMES_AFTER_CLOSE = 64

CONTINUATION, CLOSE = 0, 8


class FrameCounter:
    """Counts the frames of one connection: ``allows()`` each or not."""

    __slots__ = ("control_frames", "fragments", "frames_after_close", "window_end")

    def __init__(self) -> None:
        self.control_frames = self.fragments = self.frames_after_close = 0
        self.window_end = 0.0

    def allows(self, opcode: int, size: int, *, is_closing: bool) -> bool:
        """Count a frame of ``size`` bytes. Return False if it is one too many: the connection is to be dropped."""
        if opcode >= CLOSE:
            return opcode == CLOSE or self._allows_control_frame()
        if is_closing:
            self.frames_after_close += 1
            return self.frames_after_close <= MAX_FRAMES_AFTER_CLOSE
        if opcode != CONTINUATION:
            self.fragments = 1
        elif size < MIN_FRAGMENT_BYTES:
            self.fragments += 1
        return self.fragments <= MAX_FRAGMENTS

    def _allows_control_frame(self) -> bool:
        now = time.monotonic()
        if now >= self.window_end:
            self.control_frames, self.window_end = 0, now + CONTROL_FRAMES_SECONDS
        self.control_frames += 1
        return self.control_frames <= MAX_CONTROL_FRAMES

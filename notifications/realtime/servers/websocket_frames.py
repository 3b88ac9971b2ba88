"""WebSocket frames (RFC 6455) below ASGI: encode outgoing ones, limit incoming ones that applications do not see.

This module imports no models, because servers load it before Django's apps are ready.
"""

from __future__ import annotations

import time

#: Sizes in bytes of the messages by which direct writes are compared with a server's own: each kind of frame header.
PROBE_SIZES = (1, 125, 126, 65_535, 65_536)
#: Pings and pongs per ``CONTROL_FRAMES_SECONDS``. A client that keeps its connection alive sends a few per minute.
MAX_CONTROL_FRAMES = 100
CONTROL_FRAMES_SECONDS = 10.0
#: Fragments of one message, counting the first and those below ``MIN_FRAGMENT_BYTES``. Larger ones are bounded by the
#: server's message size, by default 1 MiB on Daphne and 16 MiB on uvicorn; many clients send fragments of 4 KiB.
MAX_FRAGMENTS = 1024
MIN_FRAGMENT_BYTES = 1024
#: Data frames after the server has sent its close, which were in transit.
MAX_FRAMES_AFTER_CLOSE = 64

OPCODE_CONTINUATION, OPCODE_CLOSE = 0, 8


def encode_text_frame(payload: bytes) -> bytes:
    """Return a text message of a server as one frame (section 5.2), without compression."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class FrameCounter:
    """Count the incoming frames of one connection. Opcodes from ``OPCODE_CLOSE`` on are control frames."""

    __slots__ = ("control_frames", "fragments", "frames_after_close", "window_end")

    def __init__(self) -> None:
        self.control_frames = self.fragments = self.frames_after_close = 0
        self.window_end = 0.0

    def allows(self, opcode: int, size: int, *, is_closing: bool) -> bool:
        """Count a frame of ``size`` bytes. Returns False if it exceeds a limit, and the connection must be dropped."""
        if opcode >= OPCODE_CLOSE:
            return opcode == OPCODE_CLOSE or self._allows_control_frame()
        if is_closing:
            self.frames_after_close += 1
            return self.frames_after_close <= MAX_FRAMES_AFTER_CLOSE
        if opcode != OPCODE_CONTINUATION:
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

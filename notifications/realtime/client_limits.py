"""Limits of what a client of the WebSocket may do. The protocol and the close reasons state them too."""

from __future__ import annotations

HELLO_TIMEOUT_SECONDS = 10.0
#: From the frame that requests an ack.
ACK_TIMEOUT_SECONDS = 30.0
MAX_CLIENT_FRAME_BYTES = 4096
#: Frames and syncs that a client may send within ``RATE_SECONDS``.
RATE_SECONDS = 10.0
RATE_FRAMES = 60
RATE_SYNCS = 10

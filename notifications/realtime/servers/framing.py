"""WebSocket frames of a server, for sockets that are written to directly."""

from __future__ import annotations


def websocket_frame(payload: bytes) -> bytes:
    """Return a text message of a server as one frame (RFC 6455, section 5.2), without compression."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload

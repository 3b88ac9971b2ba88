"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """Return a UUID version 7 (RFC 9562, section 5.7).

    The 12 bits after the milliseconds hold a fraction of the millisecond (section 6.2, method 3), so that ids
    made by one process always ascend, also when its clock is set back.
    """
    global _last
    with _lock:
        # 60 bits: milliseconds since 1970, then 1/4096 of a millisecond.
        now = (time.time_ns() << 12) // 1_000_000
        _last = max(now, _last + 1)
        tick = _last
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62)
    return uuid.UUID(int=value)

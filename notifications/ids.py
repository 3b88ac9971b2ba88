"""Identifiers that sort by the time they were made, and the number of this process."""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0
_random = b""
_process = 0


def uuid7() -> uuid.UUID:
    """Return a UUID version 7 (RFC 9562, section 5.7).

    The 12 bits after the milliseconds hold a fraction of the millisecond (section 6.2, method 3), so that ids
    made by one process always ascend, also when its clock is set back.
    """
    global _last, _random
    with _lock:
        # 60 bits: milliseconds since 1970, then 1/4096 of a millisecond.
        now = (time.time_ns() << 12) // 1_000_000
        _last = max(now, _last + 1)
        tick = _last
        # Many at once: a system call for each id would be most of its cost.
        _random = _random or os.urandom(4096)
        tail, _random = _random[:8], _random[8:]
    noise = int.from_bytes(tail, "big") >> 2
    return uuid.UUID(int=(tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | noise)


def process() -> int:
    """Return the number by which this process knows what it said itself: random, of 63 bits."""
    return _process


def _forked() -> None:
    """Forget what the parent would use too."""
    global _lock, _random, _process
    _lock = threading.Lock()
    _random = b""
    _process = int.from_bytes(os.urandom(8), "big") >> 1


_forked()


os.register_at_fork(after_in_child=_forked)

"""Identifiers: UUIDs that sort by the time of their creation, and a random number of this process."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_lock = threading.Lock()
#: Milliseconds since 1970 and 12 bits of 1/4096 ms, of the newest id.
_last_tick = 0
_random_bytes = b""
_process_number = 0


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562, section 5.7).

    The 12 bits after the milliseconds hold a fraction of the millisecond (section 6.2, method 3). Ids that one process
    creates always ascend, also when its clock is set back.
    """
    global _last_tick, _random_bytes
    with _lock:
        now = (time.time_ns() << 12) // 1_000_000
        tick = _last_tick = max(now, _last_tick + 1)
        # 4 KiB at a time: a system call for each id would be most of its cost.
        _random_bytes = _random_bytes or os.urandom(4096)
        tail, _random_bytes = _random_bytes[:8], _random_bytes[8:]
    noise = int.from_bytes(tail, "big") >> 2
    return uuid.UUID(int=(tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | noise)


def parse_id(text: str) -> uuid.UUID | None:
    """Return the id that a user has typed, None if it is none."""
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def id_of(value: Any, problem: str) -> uuid.UUID | None:
    """Return an id, also as text, or that of what has one; None for a text that is none. Else raise TypeError."""
    id = getattr(value, "id", value)
    if isinstance(id, str):
        return parse_id(id)
    if not isinstance(id, uuid.UUID):
        raise TypeError(problem)
    return id


def created_at_of(id: uuid.UUID) -> datetime | None:
    """Return when ``uuid7()`` created an id, to the microsecond; None for another kind of id."""
    if id.version != 7:
        return None
    fraction = (id.int >> 64 & 0xFFF) * 1000 >> 12
    try:
        return _EPOCH + timedelta(microseconds=(id.int >> 80) * 1000 + fraction)
    except OverflowError:  # after the year 9999: a client has made it up
        return None


def process_number() -> int:
    """Return a random number of 63 bits, by which this process recognizes its own rings."""
    return _process_number


def _reset() -> None:
    """Set up the state of a new process. A forked one must not use the random bytes and the number of its parent."""
    global _lock, _random_bytes, _process_number
    _lock = threading.Lock()
    _random_bytes = b""
    _process_number = int.from_bytes(os.urandom(8), "big") >> 1


_reset()
os.register_at_fork(after_in_child=_reset)

"""Give the memory of closed connections back to the system.

The objects of a closed connection of Daphne refer to one another. Python's collector comes to them much later: it
had freed none 15 s after 2,000 closes. What it frees, glibc keeps, because it lies between parts that are in use.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable

#: Connections that must have closed since the last time.
MIN_CLOSED = 500


class FreedMemory:
    """Counts closed connections, and says when memory should be given back: once no more of them close."""

    def __init__(self) -> None:
        self._closed = 0
        self._closed_at_last_tick = 0

    def count_closed(self) -> None:
        """Count a connection that has closed."""
        self._closed += 1

    def is_due(self) -> bool:
        """Return whether a wave of closes is over; called once a second."""
        is_over = self._closed >= MIN_CLOSED and self._closed == self._closed_at_last_tick
        if is_over:
            self._closed = 0
        self._closed_at_last_tick = self._closed
        return is_over


def give_back() -> None:
    """Collect garbage, and give free memory back to the system; the latter with glibc only."""
    gc.collect()
    if trim := _malloc_trim():
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
    return trim

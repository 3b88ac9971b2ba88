"""Give the memory of closed connections back to the system.

The objects of a closed connection of Daphne refer to one another. Python's collector comes to them much later: it
had freed none 15 s after 2,000 closes. What it frees, glibc keeps, because it lies between parts that are in use.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

#: How many fewer connections there must be than at most since the last time.
MIN_CLOSED = 500
#: They open or close again if their number has changed by more than this within a second.
MAX_CHANGE = 50


class FreedMemory:
    """Says when memory is given back: when many connections have closed, and others have not replaced them.

    To collect garbage stops the process for as long as it serves 100 reconnects, and what is given back after a wave of
    closes is taken again by the reconnects that follow it.
    """

    def __init__(self) -> None:
        self._most = self._last = 0

    def is_due(self, connections: int) -> bool:
        """Return whether a wave of closes is over; called once a second with the number of connections."""
        self._most = max(self._most, connections)
        is_over = self._most - connections >= MIN_CLOSED and abs(self._last - connections) <= MAX_CHANGE
        if is_over:
            self._most = connections
        self._last = connections
        return is_over


def give_back() -> None:
    """Collect garbage, and give free memory back to the system; the latter with glibc only."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)

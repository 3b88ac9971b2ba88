"""Whether the figures may have changed, for pages that request them again each second.

A process counts the rings of the doorbell while a page is open. An ETag has that count and the time, in steps of
``MAX_AGE_SECONDS``: with the same ETag nothing is read from the database again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from notifications.ids import process_number
from notifications.realtime import doorbell

#: Seconds after which figures are read again without a ring: some change without one, such as the load of workers.
MAX_AGE_SECONDS = 5
#: Seconds without a request after which the process stops listening.
IDLE_SECONDS = 60.0


class RingCounter:
    """Counts rings, from the first call of ``etag()`` until ``IDLE_SECONDS`` after the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._requested_at = 0.0
        self._stop: Callable[[], None] | None = None

    def etag(self, *variants: str) -> str:
        """Return an ETag that stays the same until the figures of these variants may differ."""
        with self._lock:
            self._requested_at = time.monotonic()
            if self._stop is None:
                self._stop = doorbell.listen(self._handle_ring)
                self._count += 1  # what rang in between was not counted
            step = int(time.time() // MAX_AGE_SECONDS)
            return f'W/"{process_number():x}-{self._count}-{step}-{"-".join(variants)}"'

    def close(self) -> None:
        """Stop listening until the next call of ``etag()``."""
        with self._lock:
            stop, self._stop = self._stop, None
        if stop:
            stop()

    def _handle_ring(self, users: Any, queue: bool) -> None:
        with self._lock:
            self._count += 1
            if time.monotonic() - self._requested_at < IDLE_SECONDS or self._stop is None:
                return
        # In a thread, because it waits for the thread that this is called from.
        threading.Thread(target=self.close, name="notifications-overview", daemon=True).start()


counter = RingCounter()

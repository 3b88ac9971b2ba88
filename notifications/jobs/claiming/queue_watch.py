"""Whether jobs of several queues wait. The fastest claim of PostgreSQL, of all queues, is not fair among them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from notifications.db.transactions import connection
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.sources import Source

#: Seconds between two times that a process with a backlog reads it.
QUEUES_INTERVAL_SECONDS = 1.0


class QueueWatch:
    """What this process knows of it, from when it read it last."""

    def __init__(self) -> None:
        self._read_at = self._several_until = -math.inf

    def has_several(self) -> bool:
        return time.monotonic() < self._several_until

    def refresh(self, executors: Sequence[str]) -> None:
        """Read which queues have jobs of these executors, at most each ``QUEUES_INTERVAL_SECONDS``."""
        now = time.monotonic()
        if connection().vendor == "postgresql" and now - self._read_at >= QUEUES_INTERVAL_SECONDS:
            self._read_at = now
            if len({(queue.backend, queue.name) for queue in candidates.due_queues(Source(), executors)}) > 1:
                self._several_until = now + 2 * QUEUES_INTERVAL_SECONDS


queue_watch = QueueWatch()

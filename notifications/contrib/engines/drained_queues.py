"""Queues of an engine of which this process had taken all messages, so that what was sent before and waits is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from notifications.extension import BackendQueue
from notifications.models import Job

#: Seconds for which a slot of the engine must have been free: within them it would have got the next message. Shorter
#: than the interval at which ids are sent again, because each of them takes the slot.
FREE_SECONDS = 0.5
#: The queues that are remembered.
MAX_QUEUES = 20


class DrainedQueues:
    """When this process, with ``slots`` of its engine, had last taken all messages of each queue that it serves.

    A slot that stays free after a job of a queue has found the queue empty. That says nothing about messages that were
    sent later: the engine may have lost its connection to the broker meanwhile. So each job that has ended moves the
    time on, and idle time does not. Used from any thread.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._calls = 0
        self._free_since: float | None = time.monotonic()
        self._served_at: dict[BackendQueue, float] = {}
        #: Since the last ``take()``.
        self._drained_at: dict[BackendQueue, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def occupy_slot(self) -> Iterator[None]:
        """Occupy a slot while the engine waits for a job in this process."""
        with self._lock:
            self._find_drained()
            self._calls += 1
            if self._calls >= self._slots:
                self._free_since = None
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls < self._slots and self._free_since is None:
                    self._free_since = time.monotonic()

    def add(self, job: Job) -> None:
        with self._lock:
            queue = (job.backend, job.queue_name)
            self._served_at.pop(queue, None)
            self._served_at[queue] = time.monotonic()
            if len(self._served_at) > MAX_QUEUES:
                del self._served_at[next(iter(self._served_at))]

    def take(self) -> dict[BackendQueue, float]:
        """Return, of each queue that was drained since the last call, how many seconds ago that was.

        A slow broker may look like a drained queue. So that is asked again before more is sent than one round sends.
        """
        with self._lock:
            self._find_drained()
            drained, self._drained_at = self._drained_at, {}
        now = time.monotonic()
        return {queue: now - drained_at for queue, drained_at in drained.items()}

    def _find_drained(self) -> None:
        now = time.monotonic()
        if self._free_since is not None and now - self._free_since >= FREE_SECONDS:
            for queue, served_at in self._served_at.items():
                self._drained_at[queue] = min(served_at, now - FREE_SECONDS)

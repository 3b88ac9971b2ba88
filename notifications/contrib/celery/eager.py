"""Observed tasks that their publisher calls itself: ``task_always_eager`` and ``apply()``.

While such a task runs, its process has a row among the workers, so that the jobs of a process that is killed are
found and ended like those of any lost worker.
"""

from __future__ import annotations

import os
import threading
from uuid import UUID

from notifications.db.transactions import in_callers_transaction
from notifications.models import uuid7
from notifications.worker import Lease

#: How the row of such a process is marked. It takes no jobs.
QUEUES = "engine:eager"


class EagerProcess:
    """The lease of this process, held while it calls observed tasks itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._running = 0
        self._process_id = uuid7()

    def enter(self) -> tuple[UUID, bool]:
        """Return the id of the worker that stands for this process, and whether ``leave()`` must follow.

        Inside a caller's transaction there is no lease: its other rows are not committed either while the task runs.
        Raises ``django.db.Error`` and ``NoThread``.
        """
        if in_callers_transaction():
            return self._process_id, False
        with self._lock:
            if self._lease is None:
                lease = Lease(queues=[QUEUES], concurrency=0, load=lambda: self._running)
                lease.start()
                self._lease = lease
            self._running += 1
            return self._lease.worker, True

    def leave(self) -> None:
        """End the lease if no other task runs. Raises ``django.db.Error``; the lease then ends by itself."""
        with self._lock:
            self._running -= 1
            if self._running or self._lease is None:
                return
            lease, self._lease = self._lease, None
        lease.end()


#: What holds the lease of this process.
eager_process = EagerProcess()
os.register_at_fork(after_in_child=lambda: eager_process.__init__())  # type: ignore[misc]

"""What running tasks report of their progress, until it is stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

#: Seconds between two writes of one task's progress.
INTERVAL_SECONDS = 0.5

#: Stores the progress of a task. Returns False if it is to be called again.
Store = Callable[[], bool]


class ProgressReports:
    """The latest report of each running task. Its methods may be called on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: When a report is due (monotonic), and the call that stores it.
        self._reports: dict[Any, tuple[float, Store]] = {}
        #: When a report of a task was stored last, or tried to be (monotonic).
        self._tried_at: dict[Any, float] = {}

    def __len__(self) -> int:
        return len(self._reports)

    def add(self, key: Any, store: Store) -> bool:
        """Replace the pending report of a task. Return whether none was pending."""
        with self._lock:
            is_first = key not in self._reports
            self._reports[key] = self._tried_at.get(key, 0.0) + INTERVAL_SECONDS, store
            return is_first

    def forget(self, key: Any) -> None:
        """Forget the report of a task that has ended."""
        with self._lock:
            self._reports.pop(key, None)
            self._tried_at.pop(key, None)

    def next_due(self) -> float | None:
        """Return when the next report is due (monotonic), None without reports."""
        return min((due for due, _ in list(self._reports.values())), default=None)

    def store_due(self, call: Callable[[Store], bool]) -> None:
        """Have ``call`` run the reports that are due, and keep those for which it returns False."""
        now = time.monotonic()
        for key, (due, _) in list(self._reports.items()):
            if due > now:
                continue
            with self._lock:
                report = self._reports.pop(key, None)
                if report is None:  # the task has just ended
                    continue
                self._tried_at[key] = now
            if not call(report[1]):
                with self._lock:
                    if key in self._tried_at:  # the task has not ended
                        self._reports.setdefault(key, (time.monotonic() + INTERVAL_SECONDS, report[1]))

"""Log lines that a process writes once in an interval, however often there is a reason for them."""

from __future__ import annotations

import threading
import time

#: Seconds between two lines of a process that say the same.
LOG_INTERVAL_SECONDS = 60.0
_lock = threading.Lock()
#: When (monotonic) something was logged last.
_logged_at: dict[str, float] = {}
#: How often something was to be logged since then.
_counts: dict[str, int] = {}


def is_log_due(what: str) -> bool:
    """Return whether this process may log ``what`` now: once in ``LOG_INTERVAL_SECONDS``. Counts it as logged then."""
    return count_for_log(what) > 0


def count_for_log(what: str) -> int:
    """Return how often this was called for ``what`` since it was logged, this call included; 0 if it is not due now."""
    with _lock:
        now = time.monotonic()
        _counts[what] = _counts.get(what, 0) + 1
        if what in _logged_at and now - _logged_at[what] < LOG_INTERVAL_SECONDS:
            return 0
        _logged_at[what] = now
        return _counts.pop(what)


def forget_logged(what: str = "") -> None:
    """Have the next line of this phrase logged, of any if it is empty: what has failed has worked again."""
    with _lock:
        for logged in (_logged_at, _counts):
            for key in [what] if what else list(logged):
                logged.pop(key, None)

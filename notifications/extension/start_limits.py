"""What limits how often jobs with a key start: see ``jobs/transitions/limiting.py``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple


class LimitState(NamedTuple):
    """What the limit of a key allows at a moment.

    ``free``
        How many more jobs may start now.
    ``opens_at``
        When some more may, after these have started.
    """

    free: int
    opens_at: datetime


class StartLimits:
    """What the core asks of the extension that limits how often jobs start, by the keys of their tasks.

    A task has a key by ``notifications.jobs.limit_starts()``. A key that is left out of what a method returns has no
    limit: its jobs start. Without an extension that has limits this class is called, and no key has one.
    """

    def take(self, wanted: Mapping[str, int], now: datetime) -> Mapping[str, LimitState]:
        """Count the starts of at most so many jobs of each key, and return for each how many may start.

        Called inside the transaction of each claim of such jobs, last, when all other limits allow them to start. It
        waits for no row: a key whose row another transaction has locked is closed for a moment. What is counted is
        undone with the claim. An error is logged, and the jobs wait a few seconds; others start.
        """
        return {}

    def read(self, keys: Collection[str], now: datetime) -> Mapping[str, LimitState]:
        """Return the same of these keys, without a count. It waits for no row either."""
        return {}

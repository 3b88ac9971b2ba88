"""Delay the transactions of a busy process of an engine, so that each of them covers more jobs.

An engine gives jobs one by one, and a transaction for one job costs almost as much as one for ten. PostgreSQL's
``commit_delay`` is the same idea.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from notifications.worker import loops

#: The share of the time that transactions may take before they are delayed.
BUSY_SHARE = 0.1
#: Seconds of transactions that follow a quiet time without a delay.
BURST_SECONDS = 0.05
#: Seconds that one transaction is delayed at most.
MAX_DELAY_SECONDS = 0.05


class GroupDelay:
    """The delay of one kind of transactions. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: Seconds that transactions took, less the share that the time since then allows.
        self._excess_seconds = 0.0
        self._counted_at = clock()
        self._has_ended = asyncio.Event()

    @property
    def delay_seconds(self) -> float:
        """How long the next transaction is to be delayed."""
        self._count(0.0)
        return max(0.0, self._excess_seconds - BURST_SECONDS) / BUSY_SHARE

    async def wait(self) -> None:
        """Wait until the next transaction may begin, or ``end()``."""
        if seconds := self.delay_seconds:
            self._has_ended.clear()
            await loops.wait_for(self._has_ended, seconds)

    def end(self) -> None:
        """End the current delay, because a caller waits for the transaction."""
        self._has_ended.set()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Count the time of a transaction."""
        began = self._clock()
        try:
            yield
        finally:
            self._count(self._clock() - began)

    def _count(self, seconds: float) -> None:
        now = self._clock()
        left = max(0.0, self._excess_seconds - (now - self._counted_at) * BUSY_SHARE)
        self._excess_seconds = min(left + seconds, BURST_SECONDS + MAX_DELAY_SECONDS * BUSY_SHARE)
        self._counted_at = now

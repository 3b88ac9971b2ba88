"""How many calls are under way, per host and altogether, over all event loops and threads of the process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

TOTAL = 512


@dataclass(eq=False)
class _Waiter:
    host: str
    limit: int
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    granted: bool = False

    def __post_init__(self) -> None:
        self.future: asyncio.Future[None] = self.loop.create_future()


class Slots:
    """Free places: first come, first served for one host, and hosts take turns.

    ``take`` and ``give_back`` may be called from any thread and any event loop.
    """

    def __init__(self, total: int = TOTAL) -> None:
        self._total = total
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a new process, after a fork, nothing is under way."""
        # Re-entrant, because the garbage collector may finish a dead task's call, which gives its place back,
        # at any moment, also while this thread holds the lock.
        self._lock = threading.RLock()
        self._busy = 0
        self._busy_at: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    async def take(self, host: str, limit: int) -> None:
        """Wait for a place at ``host``, of which at most ``limit`` are taken at a time."""
        with self._lock:
            if host not in self._waiting and self._fits(host, limit):
                return self._count(host, 1)
            waiter = _Waiter(host, limit)
            self._waiting.setdefault(host, deque()).append(waiter)
        try:
            await waiter.future
        except BaseException:
            self._withdraw(waiter)
            raise

    def give_back(self, host: str) -> None:
        """Free a place and wake who has waited for it."""
        with self._lock:
            self._count(host, -1)
            self._grant()

    def _fits(self, host: str, limit: int) -> bool:
        return self._busy < self._total and self._busy_at[host] < limit

    def _count(self, host: str, by: int) -> None:
        self._busy += by
        self._busy_at[host] += by
        if not self._busy_at[host]:
            del self._busy_at[host]

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.granted:
                return self.give_back(waiter.host)
            self._waiting[waiter.host].remove(waiter)
            if not self._waiting[waiter.host]:
                del self._waiting[waiter.host]
            self._grant()

    def _grant(self) -> None:
        while (waiter := self._next()) is not None:
            waiter.granted = True
            self._count(waiter.host, 1)
            try:
                waiter.loop.call_soon_threadsafe(_wake, waiter.future)
            except RuntimeError:  # its loop was closed: nobody is there to give the place back
                self._count(waiter.host, -1)

    def _next(self) -> _Waiter | None:
        for host in list(self._waiting):
            queue = self._waiting.get(host)
            if queue and self._fits(host, queue[0].limit):
                waiter = queue.popleft()
                if queue:
                    self._waiting.move_to_end(host)
                else:
                    del self._waiting[host]
                return waiter
        return None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


slots = Slots()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=slots.reset)

"""How many calls are under way, per origin and altogether, over all event loops and threads of the process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Waiter:
    origin: str
    caller: Hashable
    limit: int
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    granted: bool = False

    def __post_init__(self) -> None:
        self.future: asyncio.Future[None] = self.loop.create_future()


#: Who waits for one origin: first come, first served for one caller.
_Queues = OrderedDict[Hashable, deque[_Waiter]]


class Slots:
    """Free places. The callers of an origin take turns, so that a job with a thousand calls does not keep a single
    one waiting, and origins take turns.

    All methods may be called from any thread and any event loop.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a new process, after a fork, nothing is under way."""
        # Re-entrant, because the garbage collector may finish a dead task's call, which gives its place back,
        # at any moment, also while this thread holds the lock.
        self._lock = threading.RLock()
        self._total = 0
        self._busy = 0
        self._busy_at: dict[str, int] = {}
        self._waiting: OrderedDict[str, _Queues] = OrderedDict()

    def take_now(self, origin: str, limit: int, total: int) -> bool:
        """Take a place if one is free for whoever comes first, and return whether it was."""
        with self._lock:
            self._total = total
            at = self._busy_at.get(origin, 0)
            if at >= limit or self._busy >= total or origin in self._waiting:
                return False
            self._busy += 1
            self._busy_at[origin] = at + 1
            return True

    async def take(self, origin: str, limit: int, total: int, caller: Hashable = None) -> None:
        """Wait for a place at ``origin``, of which at most ``limit`` are taken at a time, and ``total`` in all."""
        with self._lock:
            if self.take_now(origin, limit, total):
                return
            waiter = _Waiter(origin, caller, limit)
            queues = self._waiting.setdefault(origin, OrderedDict())
            queues.setdefault(caller, deque()).append(waiter)
        try:
            await waiter.future
        except BaseException:
            self._withdraw(waiter)
            raise

    def give_back(self, origin: str) -> None:
        """Free a place and wake who has waited for it."""
        with self._lock:
            was_full = self._busy >= self._total
            self._count(origin, -1)
            if self._waiting:
                self._grant(list(self._waiting) if was_full else [origin])

    def state(self) -> tuple[int, int, dict[str, tuple[int, int]]]:
        """Return how many places are taken, of how many, and (taken, waited for) by origin."""
        with self._lock:
            origins = {origin: (busy, 0) for origin, busy in self._busy_at.items()}
            for origin, queues in self._waiting.items():
                origins[origin] = (self._busy_at.get(origin, 0), sum(map(len, queues.values())))
            return self._busy, self._total, origins

    def _fits(self, origin: str, limit: int) -> bool:
        return self._busy < self._total and self._busy_at.get(origin, 0) < limit

    def _count(self, origin: str, by: int) -> None:
        self._busy += by
        at = self._busy_at.get(origin, 0) + by
        if at:
            self._busy_at[origin] = at
        else:
            del self._busy_at[origin]

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.granted:
                return self.give_back(waiter.origin)
            queues = self._waiting[waiter.origin]
            queues[waiter.caller].remove(waiter)
            self._tidy(waiter.origin, waiter.caller)

    def _tidy(self, origin: str, caller: Hashable) -> None:
        queues = self._waiting[origin]
        if not queues[caller]:
            del queues[caller]
        if not queues:
            del self._waiting[origin]

    def _grant(self, origins: list[str]) -> None:
        """Give free places to who waits, in turns."""
        granted = True
        while granted:
            granted = False
            for origin in origins:
                if self._busy >= self._total:
                    return
                if (waiter := self._next(origin)) is not None:
                    granted = True
                    self._hand(waiter)

    def _next(self, origin: str) -> _Waiter | None:
        queues = self._waiting.get(origin)
        if queues is None:
            return None
        caller, queue = next(iter(queues.items()))
        if not self._fits(origin, queue[0].limit):
            return None
        waiter = queue.popleft()
        queues.move_to_end(caller)
        self._waiting.move_to_end(origin)
        self._tidy(origin, caller)
        return waiter

    def _hand(self, waiter: _Waiter) -> None:
        waiter.granted = True
        self._count(waiter.origin, 1)
        try:
            waiter.loop.call_soon_threadsafe(_wake, waiter.future)
        except RuntimeError:  # its loop was closed: nobody is there to give the place back
            self._count(waiter.origin, -1)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


slots = Slots()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=slots.reset)

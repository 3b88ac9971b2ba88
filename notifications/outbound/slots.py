"""How many calls are under way, per origin and altogether, over all event loops and threads of the process."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from time import monotonic


@dataclass(eq=False)
class _Waiter:
    origin: str
    caller: Hashable
    limit: int
    late_at: float
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    granted: bool = False
    gone: bool = False  # with its loop

    def __post_init__(self) -> None:
        self.future: asyncio.Future[None] = self.loop.create_future()


class _Line:
    """Who waits for one caller: first come, first served, and only after them those for whom it has become late.

    Else a server that is asked more than it answers would be sent nothing but calls that are over in a moment.
    """

    __slots__ = ("_in_time", "_late")

    def __init__(self) -> None:
        self._in_time: deque[_Waiter] = deque()
        self._late: deque[_Waiter] = deque()

    def __len__(self) -> int:
        return len(self._in_time) + len(self._late)

    def append(self, waiter: _Waiter) -> None:
        self._in_time.append(waiter)

    def remove(self, waiter: _Waiter) -> None:
        (self._in_time if waiter in self._in_time else self._late).remove(waiter)

    def first(self) -> _Waiter:
        """Return whose turn it is; among the late ones it is the one who came last, with most time left."""
        now = monotonic()
        while self._in_time and self._in_time[0].late_at <= now:
            self._late.append(self._in_time.popleft())
        return self._in_time[0] if self._in_time else self._late[-1]

    def take_first(self) -> None:
        """Take out the one that ``first()`` has returned."""
        if self._in_time:
            self._in_time.popleft()
        else:
            self._late.pop()


#: Who waits for one origin, by caller.
_Queues = OrderedDict[Hashable, _Line]


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

    async def take(
        self, origin: str, limit: int, total: int, caller: Hashable = None, patience: float = math.inf
    ) -> None:
        """Wait for a place at ``origin``, of which at most ``limit`` are taken at a time, and ``total`` in all.

        After ``patience`` seconds it is late, and others of this caller go first.
        """
        with self._lock:
            if self.take_now(origin, limit, total):
                return
            waiter = _Waiter(origin, caller, limit, monotonic() + patience)
            queues = self._waiting.setdefault(origin, OrderedDict())
            queues.setdefault(caller, _Line()).append(waiter)
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
            if waiter.gone:
                return None
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
        caller, line = next(iter(queues.items()))
        waiter = line.first()
        if not self._fits(origin, waiter.limit):
            return None
        line.take_first()
        queues.move_to_end(caller)
        self._waiting.move_to_end(origin)
        self._tidy(origin, caller)
        return waiter

    def _hand(self, waiter: _Waiter) -> None:
        waiter.granted = True
        self._count(waiter.origin, 1)
        try:
            waiter.loop.call_soon_threadsafe(_wake, waiter.future)
        except RuntimeError:  # its loop was closed: nobody takes the place
            waiter.gone = True
            self._count(waiter.origin, -1)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


slots = Slots()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=slots.reset)

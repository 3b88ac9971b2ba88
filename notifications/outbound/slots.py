"""Concurrency limits of outbound calls, per origin and in total, over all event loops and threads of the process."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic

#: Calls of a process that run at once, to all hosts together.
MAX_CALLS = 512


@dataclass(eq=False)
class _Waiter:
    origin: str
    caller: Hashable
    limit: int
    late_at: float
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    has_slot: bool = False
    is_loop_closed: bool = False

    def __post_init__(self) -> None:
        self.future: asyncio.Future[None] = self.loop.create_future()


#: The waiters of one origin by caller: callers in the order of their turns, the waiters of one in order of arrival.
_Queues = OrderedDict[Hashable, deque[_Waiter]]


class Slots:
    """Slots for ``total`` calls.

    Origins take turns, and so do the callers of an origin: a job with a thousand calls does not delay the single call
    of another. All methods may be called from any thread and any event loop.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.reset()

    def reset(self) -> None:
        """Free all slots: in the child after a fork no call is under way."""
        # Reentrant, because the garbage collector may end the call of a dead task, which releases its slot,
        # while this thread holds the lock.
        self._lock = threading.RLock()
        self._busy = 0
        self._busy_by_origin: dict[str, int] = {}
        self._queues: OrderedDict[str, _Queues] = OrderedDict()

    def try_acquire(self, origin: str, limit: int) -> bool:
        """Acquire a slot if one is free and no call waits for the origin; return whether it was acquired."""
        with self._lock:
            is_free = origin not in self._queues and self._has_free_slot(origin, limit)
            if is_free:
                self._change_busy(origin, 1)
            return is_free

    async def acquire(
        self, origin: str, limit: int, caller: Hashable = None, late_after: float = math.inf
    ) -> None:
        """Wait for one of the ``limit`` slots of ``origin``.

        After ``late_after`` seconds the last waiter of this caller is served first.
        """
        with self._lock:
            if self.try_acquire(origin, limit):
                return
            waiter = _Waiter(origin, caller, limit, monotonic() + late_after)
            self._queues.setdefault(origin, OrderedDict()).setdefault(caller, deque()).append(waiter)
        with ExitStack() as on_error:
            on_error.callback(self._withdraw, waiter)
            await waiter.future
            on_error.pop_all()

    def release(self, origin: str) -> None:
        """Release a slot and give it to the next waiter."""
        with self._lock:
            was_full = self._busy >= self.total
            self._change_busy(origin, -1)
            if self._queues:
                self._grant(list(self._queues) if was_full else [origin])

    def state(self) -> tuple[int, int, dict[str, tuple[int, int]]]:
        """Return the taken slots, their total number, and (taken, waiters) by origin."""
        with self._lock:
            origins = {origin: (busy, 0) for origin, busy in self._busy_by_origin.items()}
            for origin, queues in self._queues.items():
                origins[origin] = (self._busy_by_origin.get(origin, 0), sum(map(len, queues.values())))
            return self._busy, self.total, origins

    def _has_free_slot(self, origin: str, limit: int) -> bool:
        return self._busy < self.total and self._busy_by_origin.get(origin, 0) < limit

    def _change_busy(self, origin: str, change: int) -> None:
        self._busy += change
        busy = self._busy_by_origin.get(origin, 0) + change
        if busy:
            self._busy_by_origin[origin] = busy
        else:
            del self._busy_by_origin[origin]

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.is_loop_closed:
                return
            if waiter.has_slot:
                self.release(waiter.origin)
            else:
                self._queues[waiter.origin][waiter.caller].remove(waiter)
                self._remove_empty_queues(waiter.origin, waiter.caller)

    def _remove_empty_queues(self, origin: str, caller: Hashable) -> None:
        queues = self._queues[origin]
        if not queues[caller]:
            del queues[caller]
        if not queues:
            del self._queues[origin]

    def _grant(self, origins: list[str]) -> None:
        """Give free slots to the waiters of these origins, one for each origin in turn."""
        has_granted = True
        while has_granted:
            has_granted = False
            for origin in origins:
                if self._busy >= self.total:
                    return
                if (waiter := self._pop_waiter(origin)) is not None:
                    has_granted = True
                    self._give_slot(waiter)

    def _pop_waiter(self, origin: str) -> _Waiter | None:
        queues = self._queues.get(origin)
        if queues is None:
            return None
        caller, queue = next(iter(queues.items()))
        if not self._has_free_slot(origin, queue[0].limit):
            return None
        # In the order of arrival alone, an overloaded server would receive only calls whose deadline is about to pass.
        waiter = queue.popleft() if queue[0].late_at > monotonic() else queue.pop()
        queues.move_to_end(caller)
        self._queues.move_to_end(origin)
        self._remove_empty_queues(origin, caller)
        return waiter

    def _give_slot(self, waiter: _Waiter) -> None:
        waiter.has_slot = True
        self._change_busy(waiter.origin, 1)
        try:
            waiter.loop.call_soon_threadsafe(_resolve, waiter.future)
        except RuntimeError:  # The waiter's loop is closed, so that the call never uses the slot.
            waiter.is_loop_closed = True
            self._change_busy(waiter.origin, -1)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


slots = Slots(MAX_CALLS)
os.register_at_fork(after_in_child=slots.reset)

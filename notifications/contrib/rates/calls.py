"""What outbound calls to the hosts of a rate wait for, in this process.

A process takes tokens in slices of at most a hundredth of what the rate allows in its time, one at a time for a rate
below 100, and uses them within ``TOKEN_VALID_SECONDS``: most calls of a busy process make no query. Calls of a process
pass in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from notifications import outbound
from notifications.contrib.rates import corrections, tokens
from notifications.contrib.rates.declarations import TOKEN_VALID_SECONDS, Rate, read_rates
from notifications.db import UNAVAILABLE
from notifications.worker import DaemonExecutor, NoThread, current_execution

logger = logging.getLogger("notifications.outbound")

#: Ends the key of the limit of calls to URLs that users choose: after the name of the rate, as an argument of a task.
USER_URLS = "(URLs of users)"
#: Seconds for which a call in a job waits although the worker has no free slot.
MAX_WAIT_IN_SLOT_SECONDS = 2.0
#: Threads that take tokens.
MAX_THREADS = 4
#: Seconds after which a call that has found the database away asks again.
RETRY_SECONDS = 1.0
#: Seconds for which the requests that a partner still allows are not stored again, while there are some.
CORRECTION_INTERVAL_SECONDS = 1.0


class RateExceeded(outbound.Unavailable):
    """The rate of the host does not allow the call before its deadline; nothing was sent.

    ``retry_after`` is the seconds until the limit may allow it. ``outbound.TEMPORARY`` includes it.
    """

    message = _("The limit of calls to this server is reached.")
    #: The call would have waited in a job, whose slot others need. The job is tried again, which is no failure of it.
    gives_back_slot = False


class _Waiter:
    """A call that waits. ``woken`` is set when it is the first one."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> bool:
        """Return False if its event loop is closed: it waits no more."""
        try:
            self._loop.call_soon_threadsafe(self.woken.set)
        except RuntimeError:
            return False
        return True


@dataclass(eq=False)
class _Budget:
    """The tokens of a host's rate that this process has, and the calls that wait for one."""

    rate: Rate
    #: That of the limit.
    key: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    tokens: int = 0
    valid_until: float = 0.0
    #: Until when (monotonic) the limit has nothing to give.
    closed_until: float = 0.0
    #: The calls that wait, in order. The first one takes tokens for all.
    waiting: deque[_Waiter] = field(default_factory=deque)
    #: What takes tokens now.
    taking: Future[float] | None = None
    corrected_at: float = -math.inf
    #: When (monotonic) the last of the jobs is tried again that have given back their slots.
    retry_at: float = -math.inf

    def take(self, waiter: _Waiter) -> bool:
        """Take a token if there is one and this call is the first."""
        with self.lock:
            if not self.tokens or monotonic() > self.valid_until or self.waiting[0] is not waiter:
                return False
            self.tokens -= 1
            return True

    def join(self, waiter: _Waiter) -> None:
        with self.lock:
            self.waiting.append(waiter)
            self._wake_first()

    def leave(self, waiter: _Waiter) -> None:
        with self.lock:
            if waiter in self.waiting:
                self.waiting.remove(waiter)
            self._wake_first()

    def _wake_first(self) -> None:
        while self.waiting and not self.waiting[0].wake():
            self.waiting.popleft()

    def seconds_until(self, waiter: _Waiter | None = None) -> float:
        """Return in how many seconds this call, or the next one, may have a token, as far as that is known."""
        with self.lock:
            closed = self.closed_until - monotonic()
            if closed <= 0:
                return 0.0
            before = self.waiting.index(waiter) if waiter else len(self.waiting)
            return closed + before * self.rate.interval / 1e6

    def postpone(self, seconds: float) -> float:
        """Return in how many seconds a call of a job comes again that gives back its slot: one after the other."""
        with self.lock:
            now = monotonic()
            self.retry_at = max(self.retry_at + self.rate.interval / 1e6, now + seconds)
            return self.retry_at - now

    def start_taking(self) -> Future[float]:
        """Return the future of the call that takes tokens now."""
        with self.lock:
            if self.taking is None:
                slice_size = min(len(self.waiting), max(1, self.rate.count // 100), self.rate.burst_at_once)
                self.taking = taking = _threads.submit(tokens.take, self.rate, self.key, slice_size)
            else:
                return self.taking
        # It calls back at once if the future is done already.
        taking.add_done_callback(lambda done: self._taken(done, slice_size))
        return taking

    def _taken(self, done: Future[float], count: int) -> None:
        with self.lock:
            self.taking = None
            if done.exception() is not None:
                return
            if seconds := done.result():
                self.closed_until = monotonic() + seconds
            else:
                self.tokens, self.valid_until = count, monotonic() + TOKEN_VALID_SECONDS


class RateGate(outbound.Gate):
    """Lets calls to the hosts of a rate pass when its limit allows them."""

    def refuse_hopeless(self, call: Any, target: Any) -> None:
        if budget := _budget_of(call, target):
            _refuse(target, budget.seconds_until(), call.seconds_left)

    async def wait(self, call: Any, target: Any) -> None:
        budget = _budget_of(call, target)
        if budget is None:
            return
        waiter, stop_at = _Waiter(), monotonic() + call.seconds_left
        budget.join(waiter)
        try:
            while not budget.take(waiter):
                seconds = budget.seconds_until(waiter)
                _refuse(target, seconds, stop_at - monotonic())
                if seconds > MAX_WAIT_IN_SLOT_SECONDS:
                    _give_back_slot(budget, target, seconds)
                if budget.waiting[0] is not waiter:
                    await waiter.woken.wait()
                elif seconds:
                    await asyncio.sleep(seconds)
                else:
                    await _take_for_all(budget)
        finally:
            budget.leave(waiter)

    def learn(
        self, call: Any, target: Any, status: int, headers: Mapping[str, str], retry_after: float | None
    ) -> None:
        budget = None if call.is_user_url else _budget_of(call, target)
        found = corrections.read(status, headers, retry_after) if budget else None
        if budget is None or found is None:
            return
        now, seconds = monotonic(), min(found.seconds, tokens.MAX_CLOSED_SECONDS)
        if found.left is None:
            with budget.lock:
                budget.tokens, budget.closed_until = 0, max(budget.closed_until, now + seconds)
        elif (
            found.left >= budget.rate.burst_at_once or now - budget.corrected_at < CORRECTION_INTERVAL_SECONDS
        ):
            return
        budget.corrected_at = now
        try:
            storing = _threads.submit(
                *(tokens.correct, budget.rate, budget.rate.name, found.header),
                left=found.left,
                seconds=seconds,
            )
            storing.add_done_callback(partial(_log_correction, budget.rate))
        except NoThread as exc:
            logger.warning("Could not store what %s says of its limit: %s", target.host, exc)


async def _take_for_all(budget: _Budget) -> None:
    try:
        await asyncio.shield(asyncio.wrap_future(budget.start_taking()))
    except (*UNAVAILABLE, NoThread) as exc:
        logger.warning("Could not take what the rate %s allows: %s", budget.rate.name, exc)
        await asyncio.sleep(RETRY_SECONDS)


_budgets: dict[str, _Budget] = {}
_lock = threading.Lock()
_threads = DaemonExecutor(MAX_THREADS, "notifications-rates", keep_connections=True)


def _budget_of(call: Any, target: Any) -> _Budget | None:
    """Return the budget of a call. Those to URLs that users choose have one of their own for each rate."""
    hosts = read_rates().by_host
    rate = hosts.get(target.host) or hosts.get(f"{target.host}:{target.port}")
    if rate is None:
        return None
    key = f"{rate.name}:{USER_URLS}" if call.is_user_url else rate.name
    with _lock:
        budget = _budgets.get(key)
        if budget is None or budget.rate != rate:
            budget = _budgets[key] = _Budget(rate, key)
        return budget


def _log_correction(rate: Rate, stored: Future[None]) -> None:
    """Log an error by which what a partner says is not stored: the next response says it again."""
    if exc := stored.exception():
        text = "Could not store what the partner of the rate %s says of its limit: %s"
        logger.warning(text, rate.name, exc)


def _refuse(target: Any, seconds: float, seconds_left: float) -> None:
    if seconds > seconds_left:
        raise _make_error(target, seconds)


def _give_back_slot(budget: _Budget, target: Any, seconds: float) -> None:
    """Refuse a call if it waits in a job that may be tried again, and other jobs may need its slot meanwhile."""
    execution = current_execution()
    if execution is None or execution.is_over:
        return
    if not execution.may_give_back_slot(_make_error(target, seconds)):
        return
    error = _make_error(target, budget.postpone(seconds))
    error.gives_back_slot = True
    raise error


def _make_error(target: Any, seconds: float) -> RateExceeded:
    text = gettext("{host} was not called: the limit of calls to it is reached. Try again in {seconds} s.")
    message = text.format(host=target.host, seconds=max(1, math.ceil(seconds)))
    return RateExceeded(message, status=429, retry_after=seconds)


def _forget() -> None:
    """Begin anew in the child after a fork: other threads may have held the locks."""
    global _lock
    _lock = threading.Lock()
    _budgets.clear()


os.register_at_fork(after_in_child=_forget)

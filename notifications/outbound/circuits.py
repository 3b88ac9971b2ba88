"""Circuit breakers, for all event loops of the process: an origin that fails is not called for a while.

closed      calls go out; when ENOUGH of them, and half of all, have failed within the window, it opens
open        no call goes out for a pause, which doubles from FIRST_PAUSE to LAST_PAUSE while nothing gets better
half-open   after the pause one call at a time goes out as a probe: PROBES good ones close it, a bad one opens it

An origin has one circuit for each caller (the user whom a job or a request works for) and one for all callers. A caller
may have chosen URLs that fail at an origin that answers others, so the failures of one caller open the circuit of that
caller alone. The one for all opens when at least MIN_CALLERS have failures: none of them counts for more than
MAX_CALLER_FAILURES there.

A call fails when there is no connection, no complete answer or none before its deadline, or one of FAILURES.
A deadline that the call has spent waiting for a place, or the caller with pieces of a stream, does not count.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from time import monotonic

logger = logging.getLogger("notifications.outbound")

#: The statuses by which a gateway says that nobody is there. A 500 is about one URL, a 429 about the caller.
FAILURES = frozenset({502, 503, 504})

WINDOW = 30.0  # seconds
ENOUGH = 20
MIN_CALLERS = 3
MAX_CALLER_FAILURES = (ENOUGH - 1) // (MIN_CALLERS - 1)
FIRST_PAUSE, LAST_PAUSE = 10.0, 120.0  # seconds
PROBES = 2
PROBE = 60.0  # seconds after which a probe that has not come back is given up
MAX_CIRCUITS = 2000  # origins that are remembered; the one known longest is forgotten
MAX_CALLERS = 200  # of one origin that are remembered with their failures


class Open(Exception):
    """No call may go out for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Circuit:
    """A circuit of one origin, for one caller or for all."""

    __slots__ = (
        "_before",
        "_caller_failures",
        "_caller_failures_before",
        "_callers",
        "_ends",
        "_good_probes",
        "_lock",
        "_max_caller_failures",
        "_pause",
        "_probing",
        "_until",
        "failed",
        "good",
        "origin",
    )

    def __init__(self, origin: str, callers: str, max_caller_failures: int = sys.maxsize) -> None:
        """``callers``: for whom it is, in words. ``max_caller_failures``: how many of one caller count at most."""
        self.origin = origin
        self._callers = callers
        self._max_caller_failures = max_caller_failures
        self._lock = threading.RLock()
        self._until = 0.0  # 0: closed
        self._probing = 0.0  # when the probe went out that is under way
        self._good_probes = 0
        self._pause = FIRST_PAUSE
        self._ends = 0.0  # of the half of the window that is counted now
        self._before = (0, 0)  # good and failed ones of the half before
        self.good = self.failed = 0
        self._caller_failures: Counter[Hashable] = Counter()
        self._caller_failures_before: Counter[Hashable] = Counter()

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if not self._until:
            return "closed"
        return "open" if monotonic() < self._until else "half-open"

    @property
    def counts(self) -> tuple[int, int]:
        """How many calls have failed within the window, of how many."""
        if monotonic() >= self._ends:
            self._move_on()
        good, failed = self.good + self._before[0], self.failed + self._before[1]
        return failed, good + failed

    def check(self) -> None:
        """Raise Open if no call may go out now; nothing is counted."""
        if self._until and (seconds := self._until - monotonic()) > 0:
            raise Open(seconds)

    def enter(self) -> bool:
        """Count a call that goes out now, and return whether it is a probe; raise Open if it may not go out."""
        if not self._until:
            return False
        with self._lock:
            self.check()
            if not self._until:
                return False
            if self._probing and (seconds := self._probing + PROBE - monotonic()) > 0:
                raise Open(min(seconds, 1.0))
            self._probing = monotonic()
            return True

    def leave(self, *, probe: bool, failed: bool | None, caller: Hashable = None) -> None:
        """Count how the call of a caller ended; None for one that says nothing about the server."""
        if probe:
            self._judge(failed)
        elif failed is not None and not self._until:
            if monotonic() >= self._ends:
                self._move_on()
            if failed:
                self._count(caller)
            else:
                self.good += 1  # without the lock: one that two threads lose is no harm

    def _judge(self, failed: bool | None) -> None:
        with self._lock:
            self._probing = 0.0
            if failed:
                self._pause = min(self._pause * 2, LAST_PAUSE)
                self._open("a probe failed")
            elif failed is False:
                self._good_probes += 1
                if self._good_probes >= PROBES:
                    self._close()
                    logger.info("The circuit of %s is closed again for %s.", self.origin, self._callers)

    def _count(self, caller: Hashable) -> None:
        with self._lock:
            self.failed += 1
            self._caller_failures[caller] += 1
            failed, calls = self.counts
            by_caller = self._caller_failures + self._caller_failures_before
            counted = sum(min(number, self._max_caller_failures) for number in by_caller.values())
            if not self._until and counted >= ENOUGH and counted >= calls - failed:
                self._open(f"{failed} of {calls} calls failed")

    def remember_good(self, good: int, before: int, ends: float) -> None:
        """Start with the good calls of a window whose second half ends at ``ends``, and of the half before."""
        self.good, self._before, self._ends = good, (before, 0), ends

    def _move_on(self) -> None:
        """Forget what is older than the window, of which the second half is over."""
        now = monotonic()
        is_recent = now < self._ends + WINDOW / 2
        self._before = (self.good, self.failed) if is_recent else (0, 0)
        self._caller_failures_before = self._caller_failures if is_recent else Counter()
        self._caller_failures = Counter()
        self._ends, self.good, self.failed = now + WINDOW / 2, 0, 0

    def _open(self, why: str) -> None:
        self._until, self._good_probes = monotonic() + self._pause, 0
        logger.warning(
            "The circuit of %s is open for %s for %g s: %s.", self.origin, self._callers, self._pause, why
        )

    def _close(self) -> None:
        self._until, self._pause = 0.0, FIRST_PAUSE
        self._before, self.good, self.failed = (0, 0), 0, 0
        self._caller_failures, self._caller_failures_before = Counter(), Counter()


class Breaker:
    """The circuits of one origin. A caller without failures has none of its own."""

    __slots__ = ("_ends", "_good", "_good_before", "_lock", "_of_callers", "of_all", "origin")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.of_all = Circuit(origin, "all callers", MAX_CALLER_FAILURES)
        self._of_callers: OrderedDict[Hashable, Circuit] = OrderedDict()
        self._lock = threading.Lock()
        # Good calls of callers without a circuit: half of a caller's calls must fail, also of those before the first.
        self._good: Counter[Hashable] = Counter()
        self._good_before: Counter[Hashable] = Counter()
        self._ends = 0.0  # of the half of the window that is counted now

    @property
    def state(self) -> str:
        """``open`` or ``half-open`` if one of the circuits is, else ``closed``."""
        with self._lock:
            states = {self.of_all.state, *(circuit.state for circuit in self._of_callers.values())}
        return next(state for state in ("open", "half-open", "closed") if state in states)

    def check(self, caller: Hashable) -> None:
        """Raise Open if no call of this caller may go out now; nothing is counted."""
        if own := self._of_callers.get(caller):
            own.check()
        self.of_all.check()

    def enter(self, caller: Hashable) -> tuple[bool, bool]:
        """Count a call that goes out now, and return for which circuits, the caller's and that of all, it is a probe.

        Raises Open if it may not go out.
        """
        own = self._of_callers.get(caller)
        is_probe = own.enter() if own else False
        try:
            return is_probe, self.of_all.enter()
        except Open:
            if own:
                own.leave(probe=is_probe, failed=None)
            raise

    def leave(self, caller: Hashable, probes: tuple[bool, bool], failed: bool | None) -> None:
        """Count how the call ended; None for one that says nothing about the server."""
        is_probe, is_probe_of_all = probes
        own = self._of_callers.get(caller)
        if failed and own is None:
            own = self._add(caller)
        elif failed is False and own is None:
            self._move_on()
            self._good[caller] += 1  # without the lock: one that two threads lose is no harm
        if own:
            own.leave(probe=is_probe, failed=failed)
            if is_probe and own.state == "closed":
                with self._lock:
                    self._of_callers.pop(caller, None)
        self.of_all.leave(probe=is_probe_of_all, failed=failed, caller=caller)

    def _add(self, caller: Hashable) -> Circuit:
        self._move_on()
        made = Circuit(self.origin, "one caller")
        made.remember_good(self._good.pop(caller, 0), self._good_before.pop(caller, 0), self._ends)
        with self._lock:
            circuit = self._of_callers.setdefault(caller, made)
            while len(self._of_callers) > MAX_CALLERS:
                self._of_callers.popitem(last=False)
        return circuit

    def _move_on(self) -> None:
        """Forget good calls that are older than the window."""
        now = monotonic()
        if now >= self._ends:
            self._good_before = self._good if now < self._ends + WINDOW / 2 else Counter()
            self._good, self._ends = Counter(), now + WINDOW / 2


class Circuits:
    """The circuits of all origins that the process has called."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a new process, after a fork, or between tests."""
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Breaker] = OrderedDict()

    def at(self, origin: str) -> Breaker:
        """Return the circuits of an origin."""
        breaker = self._known.get(origin)
        if breaker is None:
            with self._lock:
                breaker = self._known.setdefault(origin, Breaker(origin))
                while len(self._known) > MAX_CIRCUITS:
                    self._known.popitem(last=False)
        return breaker

    def all(self) -> list[Breaker]:
        with self._lock:
            return list(self._known.values())


circuits = Circuits()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=circuits.reset)

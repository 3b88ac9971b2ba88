"""Leaving a server alone that fails: one circuit breaker for each origin, for all event loops of the process.

closed      calls go out; when ENOUGH of them, and half of all, have failed within the window, it opens
open        no call goes out for a pause, which doubles from FIRST_PAUSE to LAST_PAUSE while nothing gets better
half-open   after the pause one call at a time goes out as a probe: PROBES good ones close it, a bad one opens it

A call fails when there is no connection, no complete answer or none before its deadline, or one of FAILURES.
A deadline that the call has spent waiting for a place, or the caller with pieces of a stream, does not count.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from time import monotonic

logger = logging.getLogger("notifications.outbound")

#: The statuses by which a gateway says that nobody is there. A 500 is about one URL, a 429 about the caller.
FAILURES = frozenset({502, 503, 504})

WINDOW = 30.0  # seconds
ENOUGH = 20
FIRST_PAUSE, LAST_PAUSE = 10.0, 120.0  # seconds
PROBES = 2
PROBE = 60.0  # seconds after which a probe that has not come back is given up
MOST = 2000  # origins that are remembered; the one known longest is forgotten


class Open(Exception):
    """No call may go out for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Circuit:
    """The circuit of one origin."""

    __slots__ = (
        "_before",
        "_ends",
        "_good_probes",
        "_lock",
        "_pause",
        "_probing",
        "_until",
        "failed",
        "good",
        "origin",
    )

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._lock = threading.RLock()
        self._until = 0.0  # 0: closed
        self._probing = 0.0  # when the probe went out that is under way
        self._good_probes = 0
        self._pause = FIRST_PAUSE
        self._ends = 0.0  # of the half of the window that is counted now
        self._before = (0, 0)  # good and failed ones of the half before
        self.good = self.failed = 0

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

    def leave(self, *, probe: bool, failed: bool | None) -> None:
        """Count how the call ended; None for one that says nothing about the server."""
        if probe:
            self._judge(failed)
        elif failed is not None and not self._until:
            if monotonic() >= self._ends:
                self._move_on()
            if failed:
                self._count()
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
                    logger.info("The circuit of %s is closed again.", self.origin)

    def _count(self) -> None:
        with self._lock:
            self.failed += 1
            bad, calls = self.counts
            if not self._until and bad >= ENOUGH and bad * 2 >= calls:
                self._open(f"{bad} of {calls} calls failed")

    def _move_on(self) -> None:
        """Forget what is older than the window, of which the second half is over."""
        now = monotonic()
        self._before = (self.good, self.failed) if now < self._ends + WINDOW / 2 else (0, 0)
        self._ends, self.good, self.failed = now + WINDOW / 2, 0, 0

    def _open(self, why: str) -> None:
        self._until, self._good_probes = monotonic() + self._pause, 0
        logger.warning("The circuit of %s is open for %g s: %s.", self.origin, self._pause, why)

    def _close(self) -> None:
        self._until, self._pause = 0.0, FIRST_PAUSE
        self._before, self.good, self.failed = (0, 0), 0, 0


class Circuits:
    """All circuits of the process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a new process, after a fork, or between tests."""
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Circuit] = OrderedDict()

    def at(self, origin: str) -> Circuit:
        """Return the circuit of an origin."""
        circuit = self._known.get(origin)
        if circuit is None:
            with self._lock:
                circuit = self._known.setdefault(origin, Circuit(origin))
                while len(self._known) > MOST:
                    self._known.popitem(last=False)
        return circuit

    def all(self) -> list[Circuit]:
        with self._lock:
            return list(self._known.values())


circuits = Circuits()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=circuits.reset)

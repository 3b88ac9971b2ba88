"""Circuit breakers for the whole process: a failing origin is not called for a while.

closed      calls are sent; the circuit opens when MIN_FAILURES calls, and half of all, have failed within the window
open        no call is sent for INITIAL_OPEN_SECONDS, doubled up to MAX_OPEN_SECONDS each time a probe fails
half-open   then one call at a time is sent as a probe: PROBES_TO_CLOSE successes close the circuit, a failure opens it

An origin has one circuit for each caller (the user whom a job or a request works for) and one shared by all callers.
A caller may choose URLs that fail at an origin that works for others, so the failures of one caller open only the
circuit of that caller. The shared one opens when at least MIN_CALLERS have failures: at most MAX_FAILURES_PER_CALLER
of each count there.

A call fails when there is no connection, or no complete response before its deadline, or a status in FAILURE_STATUSES.
A deadline that passed while the call waited for a slot, or while the caller used chunks of a stream, does not count.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from time import monotonic

logger = logging.getLogger("notifications.outbound")

#: The statuses of a gateway without a working server. A 500 is about one URL, a 429 about the caller.
FAILURE_STATUSES = frozenset({502, 503, 504})

WINDOW_SECONDS = 30.0
MIN_FAILURES = 20
MIN_CALLERS = 3
MAX_FAILURES_PER_CALLER = (MIN_FAILURES - 1) // (MIN_CALLERS - 1)
INITIAL_OPEN_SECONDS, MAX_OPEN_SECONDS = 10.0, 120.0
PROBES_TO_CLOSE = 2
PROBE_TIMEOUT_SECONDS = 60.0  # Then another probe may be sent, although this one has not ended.
MAX_ORIGINS = 2000  # Beyond these, the origin that was added first is forgotten.
MAX_CALLERS_PER_ORIGIN = 200  # callers with an open circuit


class CallNotPermitted(Exception):
    """The circuit is open: no call may be sent for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Circuit:
    """The circuit of one origin, for one caller or shared by all."""

    def __init__(self, origin: str, callers: str) -> None:
        """``callers``: whose calls it is for, as text for the log."""
        self.origin = origin
        self._callers = callers
        self._lock = threading.Lock()
        self._open_until = 0.0  # 0: closed
        self._open_seconds = INITIAL_OPEN_SECONDS
        self._probe_sent_at = 0.0  # 0: no probe is under way
        self._successful_probes = 0

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if not self._open_until:
            return "closed"
        return "open" if monotonic() < self._open_until else "half-open"

    def check(self) -> None:
        """Raise CallNotPermitted if the circuit is open, without counting a call."""
        if self._open_until and (seconds := self._open_until - monotonic()) > 0:
            raise CallNotPermitted(seconds)

    def acquire_permission(self) -> bool:
        """Return whether the call that is now sent is a probe; raise CallNotPermitted if it may not be sent."""
        if not self._open_until:
            return False
        with self._lock:
            self.check()
            if not self._open_until:
                return False
            if (
                self._probe_sent_at
                and (seconds := self._probe_sent_at + PROBE_TIMEOUT_SECONDS - monotonic()) > 0
            ):
                raise CallNotPermitted(min(seconds, 1.0))
            self._probe_sent_at = monotonic()
            return True

    def record_probe(self, has_failed: bool | None) -> bool:
        """Record the outcome of a probe, and return whether that has closed the circuit."""
        with self._lock:
            self._probe_sent_at = 0.0
            if has_failed:
                self._open_seconds = min(self._open_seconds * 2, MAX_OPEN_SECONDS)
                self.open("a probe failed")
            elif has_failed is False:
                self._successful_probes += 1
                if self._successful_probes >= PROBES_TO_CLOSE:
                    self._open_until, self._open_seconds = 0.0, INITIAL_OPEN_SECONDS
                    logger.info("Circuit closed: %s, %s", self.origin, self._callers)
            return not self._open_until

    def open(self, reason: str) -> None:
        """Send no calls for a while."""
        self._open_until, self._successful_probes = monotonic() + self._open_seconds, 0
        logger.warning(
            "Circuit opened: %s, %s, for %g s: %s", self.origin, self._callers, self._open_seconds, reason
        )


class OriginCircuits:
    """The circuits of one origin, and what they count. A caller's own one exists from when it opens until it closes."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.shared = Circuit(origin, "all callers")
        self._by_caller: OrderedDict[Hashable, Circuit] = OrderedDict()
        self._lock = threading.Lock()
        self._forget_calls()

    def _forget_calls(self) -> None:
        # The window is counted in two halves: the current one, which ends at this time, and the previous one.
        self._half_ends_at = 0.0
        self._successes: Counter[Hashable] = Counter()
        self._failures: Counter[Hashable] = Counter()
        self._previous_successes: Counter[Hashable] = Counter()
        self._previous_failures: Counter[Hashable] = Counter()

    @property
    def state(self) -> str:
        """``open`` or ``half-open`` if one of the circuits is, else ``closed``."""
        with self._lock:
            states = {self.shared.state, *(circuit.state for circuit in self._by_caller.values())}
        return next(state for state in ("open", "half-open", "closed") if state in states)

    @property
    def counts(self) -> tuple[int, int]:
        """The number of failed calls within the window, and of all calls."""
        self._rotate_window()
        failures = self._failures.total() + self._previous_failures.total()
        return failures, failures + self._successes.total() + self._previous_successes.total()

    def check(self, caller: Hashable) -> None:
        """Raise CallNotPermitted if this caller may not call the origin now, without counting a call."""
        if own := self._by_caller.get(caller):
            own.check()
        self.shared.check()

    def acquire_permission(self, caller: Hashable) -> tuple[bool, bool]:
        """Return whether the call that is now sent is a probe of the caller's circuit, and of the shared one.

        Raises CallNotPermitted if it may not be sent.
        """
        own = self._by_caller.get(caller)
        is_probe = own.acquire_permission() if own else False
        try:
            return is_probe, self.shared.acquire_permission()
        except CallNotPermitted:
            if own and is_probe:
                own.record_probe(None)
            raise

    def record(self, caller: Hashable, probes: tuple[bool, bool], has_failed: bool | None) -> None:
        """Record the outcome of a call; ``has_failed`` is None if it means nothing about the server."""
        is_probe, is_shared_probe = probes
        if is_shared_probe and self.shared.record_probe(has_failed):
            self._forget_calls()
        own = self._by_caller.get(caller)
        if is_probe and own and own.record_probe(has_failed):
            self._by_caller.pop(caller, None)
            for counter in (
                self._successes,
                self._failures,
                self._previous_successes,
                self._previous_failures,
            ):
                counter.pop(caller, None)
        if has_failed is None or is_probe or is_shared_probe:
            return
        self._rotate_window()
        if has_failed:
            self._record_failure(caller)
        else:
            self._successes[caller] += (
                1  # Without the lock: a success that two threads count as one does no harm.
            )

    def _record_failure(self, caller: Hashable) -> None:
        with self._lock:
            self._failures[caller] += 1
            by_caller = self._failures + self._previous_failures
            failures, successes = (
                by_caller[caller],
                self._successes[caller] + self._previous_successes[caller],
            )
            if caller not in self._by_caller and failures >= MIN_FAILURES and failures >= successes:
                self._by_caller[caller] = own = Circuit(self.origin, "one caller")
                own.open(f"{failures} of {failures + successes} calls failed")
                if len(self._by_caller) > MAX_CALLERS_PER_ORIGIN:
                    self._by_caller.popitem(last=False)
            failures, calls = self.counts
            counted = sum(min(number, MAX_FAILURES_PER_CALLER) for number in by_caller.values())
            if self.shared.state == "closed" and counted >= MIN_FAILURES and counted >= calls - failures:
                self.shared.open(f"{failures} of {calls} calls failed")

    def _rotate_window(self) -> None:
        """Start a new half of the window if it is time. The current one is the previous one if it ended recently."""
        now = monotonic()
        if now >= self._half_ends_at:
            is_recent = now < self._half_ends_at + WINDOW_SECONDS / 2
            self._previous_successes = self._successes if is_recent else Counter()
            self._previous_failures = self._failures if is_recent else Counter()
            self._successes, self._failures = Counter(), Counter()
            self._half_ends_at = now + WINDOW_SECONDS / 2


class Circuits:
    """The circuits of all origins that the process has called."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all origins, in the child after a fork and between tests."""
        self._lock = threading.Lock()
        self._by_origin: OrderedDict[str, OriginCircuits] = OrderedDict()

    def get(self, origin: str) -> OriginCircuits:
        """Return the circuits of an origin, made at its first call."""
        found = self._by_origin.get(origin)
        if found is None:
            with self._lock:
                found = self._by_origin.setdefault(origin, OriginCircuits(origin))
                while len(self._by_origin) > MAX_ORIGINS:
                    self._by_origin.popitem(last=False)
        return found

    def all(self) -> list[OriginCircuits]:
        with self._lock:
            return list(self._by_origin.values())


circuits = Circuits()
os.register_at_fork(after_in_child=circuits.reset)

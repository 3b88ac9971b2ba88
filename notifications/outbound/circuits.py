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
import sys
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
MAX_CALLERS_PER_ORIGIN = 200  # callers with failures


class CallNotPermitted(Exception):
    """The circuit is open: no call may be sent for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Circuit:
    """A circuit of one origin, for one caller or shared by all."""

    __slots__ = (
        "_callers",
        "_failures_by_caller",
        "_half_ends_at",
        "_lock",
        "_max_failures_per_caller",
        "_open_seconds",
        "_open_until",
        "_previous_counts",
        "_previous_failures_by_caller",
        "_probe_sent_at",
        "_successful_probes",
        "failures",
        "origin",
        "successes",
    )

    def __init__(self, origin: str, callers: str, max_failures_per_caller: int = sys.maxsize) -> None:
        """``callers``: whose calls it is for, as text for the log."""
        self.origin = origin
        self._callers = callers
        self._max_failures_per_caller = max_failures_per_caller
        self._lock = threading.RLock()
        self._open_until = 0.0  # 0: closed
        self._open_seconds = INITIAL_OPEN_SECONDS
        self._probe_sent_at = 0.0  # 0: no probe is under way
        self._successful_probes = 0
        # The window is counted in two halves: the current one, which ends at this time, and the previous one.
        self._half_ends_at = 0.0
        self.successes = self.failures = 0
        self._previous_counts = (0, 0)  # successes and failures
        self._failures_by_caller: Counter[Hashable] = Counter()
        self._previous_failures_by_caller: Counter[Hashable] = Counter()

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if not self._open_until:
            return "closed"
        return "open" if monotonic() < self._open_until else "half-open"

    @property
    def counts(self) -> tuple[int, int]:
        """The number of failed calls within the window, and of all calls."""
        if monotonic() >= self._half_ends_at:
            self._rotate_window()
        successes, failures = (
            self.successes + self._previous_counts[0],
            self.failures + self._previous_counts[1],
        )
        return failures, successes + failures

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

    def record(self, *, is_probe: bool, has_failed: bool | None, caller: Hashable = None) -> None:
        """Record the outcome of a call; ``has_failed`` is None if it means nothing about the server."""
        if is_probe:
            self._record_probe(has_failed)
        elif has_failed is not None and not self._open_until:
            if monotonic() >= self._half_ends_at:
                self._rotate_window()
            if has_failed:
                self._record_failure(caller)
            else:
                self.successes += 1  # Without the lock: a success that two threads count as one does no harm.

    def restore_successes(self, current: int, previous: int, half_ends_at: float) -> None:
        """Start with the successes of the current half of the window and of the previous one."""
        self.successes, self._previous_counts, self._half_ends_at = current, (previous, 0), half_ends_at

    def _record_probe(self, has_failed: bool | None) -> None:
        with self._lock:
            self._probe_sent_at = 0.0
            if has_failed:
                self._open_seconds = min(self._open_seconds * 2, MAX_OPEN_SECONDS)
                self._open("a probe failed")
            elif has_failed is False:
                self._successful_probes += 1
                if self._successful_probes >= PROBES_TO_CLOSE:
                    self._close()
                    logger.info("Circuit closed: %s, %s", self.origin, self._callers)

    def _record_failure(self, caller: Hashable) -> None:
        with self._lock:
            self.failures += 1
            self._failures_by_caller[caller] += 1
            failures, calls = self.counts
            by_caller = self._failures_by_caller + self._previous_failures_by_caller
            counted = sum(min(number, self._max_failures_per_caller) for number in by_caller.values())
            if not self._open_until and counted >= MIN_FAILURES and counted >= calls - failures:
                self._open(f"{failures} of {calls} calls failed")

    def _rotate_window(self) -> None:
        """Start a new half of the window. The current one becomes the previous one if it ended recently enough."""
        now = monotonic()
        is_recent = now < self._half_ends_at + WINDOW_SECONDS / 2
        self._previous_counts = (self.successes, self.failures) if is_recent else (0, 0)
        self._previous_failures_by_caller = self._failures_by_caller if is_recent else Counter()
        self._failures_by_caller = Counter()
        self._half_ends_at, self.successes, self.failures = now + WINDOW_SECONDS / 2, 0, 0

    def _open(self, reason: str) -> None:
        self._open_until, self._successful_probes = monotonic() + self._open_seconds, 0
        logger.warning(
            "Circuit opened: %s, %s, for %g s: %s", self.origin, self._callers, self._open_seconds, reason
        )

    def _close(self) -> None:
        self._open_until, self._open_seconds = 0.0, INITIAL_OPEN_SECONDS
        self._previous_counts, self.successes, self.failures = (0, 0), 0, 0
        self._failures_by_caller, self._previous_failures_by_caller = Counter(), Counter()


class OriginCircuits:
    """The circuits of one origin. A caller without failures has none of its own."""

    __slots__ = (
        "_by_caller",
        "_half_ends_at",
        "_lock",
        "_previous_successes",
        "_successes",
        "origin",
        "shared",
    )

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.shared = Circuit(origin, "all callers", MAX_FAILURES_PER_CALLER)
        self._by_caller: OrderedDict[Hashable, Circuit] = OrderedDict()
        self._lock = threading.Lock()
        # Successes of callers without a circuit. Half of a caller's calls must fail, and those before the first
        # failure count too.
        self._successes: Counter[Hashable] = Counter()
        self._previous_successes: Counter[Hashable] = Counter()
        self._half_ends_at = 0.0

    @property
    def state(self) -> str:
        """``open`` or ``half-open`` if one of the circuits is, else ``closed``."""
        with self._lock:
            states = {self.shared.state, *(circuit.state for circuit in self._by_caller.values())}
        return next(state for state in ("open", "half-open", "closed") if state in states)

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
            if own:
                own.record(is_probe=is_probe, has_failed=None)
            raise

    def record(self, caller: Hashable, probes: tuple[bool, bool], has_failed: bool | None) -> None:
        """Record the outcome of a call; ``has_failed`` is None if it means nothing about the server."""
        is_probe, is_shared_probe = probes
        own = self._by_caller.get(caller)
        if has_failed and own is None:
            own = self._add_circuit(caller)
        elif has_failed is False and own is None:
            self._rotate_window()
            # Without the lock: a success that two threads count as one does no harm.
            self._successes[caller] += 1
        if own:
            own.record(is_probe=is_probe, has_failed=has_failed)
            if is_probe and own.state == "closed":
                with self._lock:
                    self._by_caller.pop(caller, None)
        self.shared.record(is_probe=is_shared_probe, has_failed=has_failed, caller=caller)

    def _add_circuit(self, caller: Hashable) -> Circuit:
        self._rotate_window()
        added = Circuit(self.origin, "one caller")
        added.restore_successes(
            self._successes.pop(caller, 0), self._previous_successes.pop(caller, 0), self._half_ends_at
        )
        with self._lock:
            circuit = self._by_caller.setdefault(caller, added)
            while len(self._by_caller) > MAX_CALLERS_PER_ORIGIN:
                self._by_caller.popitem(last=False)
        return circuit

    def _rotate_window(self) -> None:
        now = monotonic()
        if now >= self._half_ends_at:
            is_recent = now < self._half_ends_at + WINDOW_SECONDS / 2
            self._previous_successes = self._successes if is_recent else Counter()
            self._successes, self._half_ends_at = Counter(), now + WINDOW_SECONDS / 2


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

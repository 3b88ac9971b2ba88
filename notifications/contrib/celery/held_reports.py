"""Reports at which a hook of an extension fails: when they are tried again, and how many wait, for the worker's row."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from notifications.extension import left_to_later
from notifications.jobs import ObservedAttempt, Observer

#: Seconds until a report at which a hook has failed is tried again, doubled each time.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0
#: Seconds after which a process says again how many of its reports wait, and after which what it said is over.
SEND_INTERVAL_SECONDS, SENT_VALID_SECONDS = 5.0, 30.0
#: Bytes that are written into a pipe at once, without another process's between them.
MAX_MESSAGE_BYTES = 4096


@dataclass(slots=True, eq=False)
class HeldCall:
    """A call of the recorder at which a hook has failed."""

    function: Callable[[], Any]
    #: As those of an ``ObservedAttempt``.
    hook_failures: int = 0
    held_until: float = 0.0
    held_by: str = ""

    def __call__(self) -> Any:
        return self.function()


def run_call(call: Callable[[], Any]) -> list[Callable[[], Any]]:
    """Run a call. Return it if it is to be run again: its row is locked, or a hook has failed."""
    held = call if isinstance(call, HeldCall) else HeldCall(call)
    with left_to_later("record a Celery task") as failure:
        return [call] if call() is False else []
    _pause(held, failure.hook)
    return [held]


def hold(attempt: ObservedAttempt, exc: Exception) -> None:
    """Note when to record an attempt again at which a hook has failed."""
    with left_to_later("record a Celery task") as failure:
        raise exc
    _pause(attempt, failure.hook)


def _pause(work: ObservedAttempt | HeldCall, hook: str) -> None:
    """Have something recorded again after a longer pause each time."""
    pause = min(FIRST_PAUSE_SECONDS * 2**work.hook_failures, MAX_PAUSE_SECONDS)
    work.hook_failures = min(work.hook_failures + 1, 10)
    work.held_until = time.monotonic() + pause
    work.held_by = hook


#: Records what was reported.
observer = Observer(hold)


def held_keys(works: Iterable[Any]) -> set[Any]:
    """Return the keys of what waits for a hook: the id of an attempt's job, whose other reports wait with it."""
    now = time.monotonic()
    return {key_of(work) for work in works if getattr(work, "held_until", 0.0) > now}


def key_of(work: Any) -> Any:
    """Return by what a report is recognized that waits for a hook."""
    return work.id if isinstance(work, ObservedAttempt) else id(work)


class HeldCounts:
    """How many reports each hook holds up in the processes of a Celery worker.

    Its main process renews the row of the worker, and its children run the tasks: they write into a pipe that is opened
    before they are forked.
    """

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        for end in (self._read_end, self._write_end):
            os.set_blocking(end, False)
        self._lock = threading.Lock()
        self._rest = b""
        self._sent: Mapping[str, int] = {}
        self._sent_at = 0.0
        #: What each process (id) has said, and until when that counts (monotonic).
        self._counts: dict[int, tuple[Mapping[str, int], float]] = {}

    def send(self, works: Iterable[Any]) -> None:
        """Say how many of these reports wait in this process, if that is new or was said a while ago."""
        counts = Counter(work.held_by for work in works if getattr(work, "hook_failures", 0))
        now = time.monotonic()
        if counts == self._sent and (not counts or now - self._sent_at < SEND_INTERVAL_SECONDS):
            return
        message = json.dumps([os.getpid(), counts]).encode() + b"\n"
        try:
            if len(message) <= MAX_MESSAGE_BYTES:
                os.write(self._write_end, message)
        except OSError:  # the pipe is full, because the main process stands
            return
        self._sent, self._sent_at = counts, now

    def read(self) -> Mapping[str, int]:
        """Return how many reports each hook holds up. Called in the main process, on any thread."""
        now = time.monotonic()
        with self._lock:
            *lines, self._rest = (self._rest + self._read_all()).split(b"\n")
            for pid, counts in map(json.loads, lines):
                self._counts[pid] = counts, now + SENT_VALID_SECONDS
            self._counts = {
                pid: (counts, until)
                for pid, (counts, until) in self._counts.items()
                if counts and until > now
            }
            total: Counter[str] = Counter()
            for counts, _ in self._counts.values():
                total.update(counts)
        return total

    def _read_all(self) -> bytes:
        read = b""
        try:
            while part := os.read(self._read_end, 65_536):
                read += part
        except BlockingIOError:
            pass
        return read


#: Those of the Celery worker that this process is of; None elsewhere, as in a publisher.
of_worker: HeldCounts | None = None


def open_counts() -> HeldCounts:
    """Open the counts of a worker, before it forks its children."""
    global of_worker
    of_worker = HeldCounts()
    return of_worker


def send_counts(works: Iterable[Any]) -> None:
    """Have the row of the worker say what waits in this process."""
    if of_worker:
        of_worker.send(works)

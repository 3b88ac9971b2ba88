"""The queue of what a process of Celery, or a publisher, has to record of observed tasks. It is taken in groups.

Up to ``MAX_GROUP`` are taken for one transaction. While more comes than one thread can record in
``MAX_BUSY_SHARE`` of its time, it gathers for up to ``MAX_GATHER_SECONDS``, until there is enough for a transaction, or
nothing more comes for ``QUIET_SECONDS``.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from notifications.db.transactions import connection
from notifications.engines.observed.starts import ObservedAttempt
from notifications.models import Job

#: Entries that may wait. Further ones are dropped, and the reconciler finds out what became of their tasks.
MAX_QUEUED_CALLS = 2_000
#: Attempts that one transaction records, beside those that were locked. On PostgreSQL an attempt costs 0.11 ms of
#: CPU among 400, 0.14 among 100. SQLite is locked for other writers meanwhile.
MAX_GROUP = {"sqlite": 50, "postgresql": 400}
#: The share of its time for which the thread writes while no thread waits for it, and seconds that it may write
#: without a pause after a quiet time.
MAX_BUSY_SHARE, BURST_SECONDS = 0.1, 0.05
#: Seconds for which entries gather at most: those of 400 tasks at 1,300 tasks a second.
MAX_GATHER_SECONDS = 0.3
#: Seconds after the last entry that end the gathering: those of 15 tasks at 300 tasks a second.
QUIET_SECONDS = 0.05
#: Seconds for which a start waits for the end of its task, to be recorded with it.
START_DELAY_SECONDS = 0.01

#: A call, an attempt to be recorded, or the rows of a published message to be inserted.
Work = Callable[[], Any] | ObservedAttempt | list[Job]


@dataclass(slots=True, eq=False)
class Entry:
    """Work, and the event that is set when it is done, if a thread waits for that."""

    work: Work
    done: threading.Event | None = None


class RecordQueue:
    """Entries are put by any thread, and taken by one."""

    def __init__(self) -> None:
        self._entries: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        #: ``done`` of the entries in the queue for which threads wait.
        self._awaited: set[threading.Event] = set()
        #: Ends the gathering: a thread waits, or there is enough for a transaction.
        self._is_due = threading.Event()
        #: When the next transaction keeps ``MAX_BUSY_SHARE`` (monotonic).
        self._ready_at = 0.0

    def __len__(self) -> int:
        return self._entries.qsize()

    def put(self, work: Work, *, done: threading.Event | None = None) -> None:
        """Add an entry. With ``done`` a thread waits for it, so that nothing gathers until it is taken."""
        # In this order: take() clears _is_due, and then reads the others, so that it misses no entry.
        try:
            if done:
                self._awaited.add(done)
            self._entries.put(Entry(work, done))
            if done or self._has_enough():
                self._is_due.set()
        # A time limit of the task may raise here. What is not in the queue must not end the gathering for ever.
        except BaseException:
            if done:
                self._awaited.discard(done)
            raise

    def take(self, timeout: float) -> list[Entry]:
        """Wait for entries, let them gather, and return them in order; none after ``timeout`` seconds without any."""
        try:
            entries = [self._entries.get(timeout=timeout)]
        except queue.Empty:
            return []
        first_at = time.monotonic()
        self._is_due.clear()
        if not self._has_enough() and not self._awaited:
            self._gather(min(self._ready_at, first_at + MAX_GATHER_SECONDS))
        # The end of a short task follows its start at once.
        until = first_at + START_DELAY_SECONDS
        has_only_starts = is_start(entries[0])
        works = {id(entries[0].work)}
        while len(works) < self.max_group:
            try:
                seconds = max(until - time.monotonic(), 0.0) if has_only_starts else 0.0
                entry = self._entries.get(block=seconds > 0, timeout=seconds or None)
            except queue.Empty:
                break
            entries.append(entry)
            works.add(id(entry.work))
            has_only_starts = has_only_starts and is_start(entry)
        self._awaited.difference_update(entry.done for entry in entries if entry.done)
        return entries

    def wait(self, seconds: float) -> None:
        """Wait, on the thread that takes, before something is tried again."""
        time.sleep(seconds)

    def add_busy_seconds(self, seconds: float) -> None:
        """Count how long the thread has worked on what it took, until now."""
        now = time.monotonic()
        earliest = now - seconds - BURST_SECONDS / MAX_BUSY_SHARE
        ready_at = max(self._ready_at, earliest) + seconds / MAX_BUSY_SHARE
        # Without this bound the first tasks after a long load would gather too.
        self._ready_at = min(ready_at, now + MAX_GATHER_SECONDS)

    def _gather(self, until: float) -> None:
        """Wait until then (monotonic), or until a thread waits, there is enough, or nothing more comes."""
        gathered = -1
        while (seconds := until - time.monotonic()) > 0 and len(self) > gathered:
            gathered = len(self)
            if self._is_due.wait(min(seconds, QUIET_SECONDS)):
                return

    def _has_enough(self) -> bool:
        """Return whether the queue, behind the entry that was taken, has the starts and ends for a transaction."""
        return len(self) >= 2 * self.max_group - 1

    @cached_property
    def max_group(self) -> int:
        """How many attempts one transaction records. Kept, because each task asks twice."""
        return MAX_GROUP[connection().vendor]


def is_start(entry: Entry) -> bool:
    """Return whether an entry is the start of a task that has not ended yet, and no thread waits for it."""
    return isinstance(entry.work, ObservedAttempt) and entry.work.outcome is None and entry.done is None

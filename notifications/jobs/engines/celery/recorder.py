"""The thread on which a process of Celery, or a publisher, records observed tasks.

A connection of its own is not closed with each task, as Celery does with those of its threads, and is in no transaction
of a task. What waits for a database that is away is recorded when it is back, while the tasks go on.

Tasks do not wait for their starts and ends. Up to ``MAX_GROUP`` attempts are recorded in one transaction. While more
comes than the thread can record in ``MAX_BUSY_SHARE`` of its time, it waits for up to ``MAX_GATHER_SECONDS``, until
there is enough for a transaction.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import InterfaceError, OperationalError, connections, reset_queries

from notifications.db.deadlines import limit_this_thread
from notifications.db.threads import (
    MAX_CONNECTION_SECONDS,
    NoThread,
    check_connections,
    close_connections,
    keep_connections,
    start_thread,
)
from notifications.jobs.engines.celery.progress_reports import ProgressReports, Store
from notifications.jobs.transitions import observed_groups, signal_queue
from notifications.jobs.transitions.observed_groups import ObservedAttempt
from notifications.jobs.transitions.signal_queue import SignalQueue
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

DATABASE_UNAVAILABLE = (OperationalError, InterfaceError)
#: Seconds that a caller waits, unless the database is known to be away.
MAX_WAIT_SECONDS = 2.0
#: Seconds for which a call is tried again while the database is away, and between two tries at most.
RETRY_SECONDS, MAX_PAUSE_SECONDS = 30.0, 2.0
#: Entries that may wait. Further ones are dropped, and the reconciler finds out what became of their tasks.
MAX_QUEUED_CALLS = 2_000
#: Entries that may wait before threads that add attempts or rows wait for those.
MAX_LAG = 200
#: Attempts that one transaction records, beside those that were locked. Each end numbers a job and a notification: 100
#: rows, which is a full pass of numbering on SQLite.
MAX_GROUP = 50
#: The share of its time for which the thread writes while nobody waits for it, and seconds that it may write without
#: a pause after a quiet time.
MAX_BUSY_SHARE, BURST_SECONDS = 0.1, 0.05
#: Seconds for which entries gather at most.
MAX_GATHER_SECONDS = 0.2
#: Seconds for which a start waits for the end of its task, to be recorded with it.
START_DELAY_SECONDS = 0.01
#: The share of its time for which a publishing thread waits for the rows of its tasks.
MAX_PUBLISHER_SHARE = 0.1
#: Seconds for which a row may be locked by another transaction.
MAX_LOCKED_SECONDS, LOCKED_PAUSE_SECONDS = 10.0, 0.02
#: Seconds after which an idle thread closes its connection.
IDLE_SECONDS = 5.0
#: Seconds that the exit of a process waits for what is not recorded yet.
EXIT_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Entry:
    """What is to be done: a call, an attempt to be recorded, or the rows of a published message to be inserted."""

    work: Callable[[], Any] | ObservedAttempt | list[Job]
    done: threading.Event | None = None


class _Publisher(threading.local):
    """When this thread may wait again for the row of a task that it publishes (monotonic)."""

    waits_from = 0.0


class Recorder:
    """Records on one thread of this process. Calls run in order, and attempts in order with them."""

    def __init__(self) -> None:
        #: Sends the signals of finished jobs, on a thread of its own: a receiver that hangs delays only others.
        self.signals = SignalQueue()
        self._calls: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_away = False
        #: ``done`` of the entries in the queue for which somebody waits.
        self._awaited: set[threading.Event] = set()
        #: Ends the gathering: somebody waits, or there is enough for a transaction.
        self._is_due = threading.Event()
        #: When the next transaction keeps ``MAX_BUSY_SHARE`` (monotonic).
        self._ready_at = 0.0
        #: Attempts whose rows are locked by others, since when (monotonic).
        self._locked: dict[ObservedAttempt, float] = {}
        self._publisher = _Publisher()
        self._progress = ProgressReports()
        self._is_progress_failing = False

    def call(self, function: Callable[[], Any], *, wait: float = MAX_WAIT_SECONDS) -> None:
        """Run a call on the thread, and wait until it has run, at most ``wait`` seconds. Raises nothing."""
        self._put(function, wait)

    def record(self, attempt: ObservedAttempt, *, wait: float = 0.0) -> None:
        """Record what is known of an attempt, soon. Waits for that at most ``wait`` seconds, and raises nothing."""
        self._put(attempt, wait, MAX_WAIT_SECONDS)

    def insert(self, rows: list[Job], *, wait: bool = True) -> None:
        """Insert the rows of a published message, but those that exist. Raises nothing.

        With ``wait``, waits for that at most ``MAX_WAIT_SECONDS``, but for no more than ``MAX_PUBLISHER_SHARE`` of this
        thread's time, unless ``MAX_LAG`` entries wait.
        """
        started = time.monotonic()
        if not wait or started < self._publisher.waits_from:
            self._put(rows, 0.0, MAX_WAIT_SECONDS if wait else 0.0)
            return
        self._put(rows, MAX_WAIT_SECONDS)
        ended = time.monotonic()
        self._publisher.waits_from = ended + (ended - started) * (1 / MAX_PUBLISHER_SHARE - 1)

    def report(self, key: Any, store: Store) -> None:
        """Run ``store`` soon, but at most twice a second for a key, and then the latest one.

        While it returns False, or the database is away, it is run again.
        """
        if self._progress.add(key, store):
            self.call(lambda: None, wait=0)  # wakes the thread, which then waits until the report is due

    def forget(self, key: Any) -> None:
        """Forget a report that was not stored: the task has ended."""
        self._progress.forget(key)

    def drain(self, seconds: float) -> None:
        """Wait until all that was added is recorded, and its signals are sent, at most this long."""
        until = time.monotonic() + seconds
        if self._thread is not None:
            self._is_away = False
            self.call(lambda: None, wait=seconds)
        self.signals.wait(until - time.monotonic())

    def _put(
        self, work: Callable[[], Any] | ObservedAttempt | list[Job], wait: float, lag_wait: float = 0.0
    ) -> None:
        """Add an entry, and wait until it is done, at most ``wait`` seconds.

        If ``MAX_LAG`` entries wait already, wait at most ``lag_wait`` seconds, if that is longer.
        """
        waiting = self._calls.qsize()
        if waiting >= MAX_QUEUED_CALLS:
            logger.error("Dropped what is to be recorded of a Celery task: %d calls wait", MAX_QUEUED_CALLS)
            return
        if waiting >= MAX_LAG:
            wait = max(wait, lag_wait)
        done = threading.Event() if wait and not self._is_away else None
        # In this order: the thread clears _is_due before it looks at the others, and nobody is overlooked.
        try:
            if done:
                self._awaited.add(done)
            self._calls.put(_Entry(work, done))
            if done or self._has_enough():
                self._is_due.set()
        except (
            BaseException
        ):  # a time limit of the task; an entry that is not in the queue must not be waited for
            if done:
                self._awaited.discard(done)
            raise
        if self._ensure_thread() and done:
            done.wait(wait)

    def _has_enough(self) -> bool:
        """Return whether the queue, behind the entry that was taken, has the starts and ends for a transaction."""
        return self._calls.qsize() >= 2 * MAX_GROUP - 1

    def _ensure_thread(self) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return True
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                try:
                    self._thread = start_thread(self._run, "notifications-celery")
                except NoThread as exc:
                    logger.warning("Could not record a Celery task: %s", exc)
                    return False
            return True

    def _run(self) -> None:
        limit_this_thread()
        signal_queue.use_on_this_thread(self.signals)
        opened = time.monotonic()
        while True:
            if time.monotonic() - opened > MAX_CONNECTION_SECONDS:
                close_connections()
                opened = time.monotonic()
            entries = self._take()
            started = time.monotonic()
            for call in self._calls_for(entries):
                self._run_until_done(call)
            for entry in entries:
                if entry.done:
                    entry.done.set()
            if not entries and self._locked:
                self._run_until_done(partial(self._record, list(self._locked)))
            if not entries and not self._progress and not self._locked:
                close_connections()
            self._progress.store_due(self._store_progress)
            self._count_busy_seconds(started)

    def _take(self) -> list[_Entry]:
        """Wait for entries, let them gather, and return them in order; none when something else is due."""
        try:
            entries = [self._calls.get(timeout=self._seconds_to_next())]
        except queue.Empty:
            return []
        first_at = time.monotonic()
        self._is_due.clear()
        if not self._has_enough() and not self._awaited:
            pause = min(self._ready_at - first_at, MAX_GATHER_SECONDS)
            if pause > 0:
                self._is_due.wait(pause)
        # The end of a short task follows its start at once.
        until = first_at + START_DELAY_SECONDS
        has_only_starts = _is_start(entries[0])
        works = {id(entries[0].work)}
        while len(works) < MAX_GROUP:
            try:
                seconds = max(until - time.monotonic(), 0.0) if has_only_starts else 0.0
                entry = self._calls.get(block=seconds > 0, timeout=seconds or None)
            except queue.Empty:
                break
            entries.append(entry)
            works.add(id(entry.work))
            has_only_starts = has_only_starts and _is_start(entry)
        self._awaited.difference_update(entry.done for entry in entries if entry.done)
        return entries

    def _calls_for(self, entries: Sequence[_Entry]) -> Iterator[Callable[[], Any]]:
        """Yield the calls that do what entries say: rows first, then attempts, in groups, and calls in their order."""
        if rows := [row for entry in entries if isinstance(entry.work, list) for row in entry.work]:
            yield lambda: observed_groups.insert(rows)
        # Those that were locked by others are tried again first: a second attempt at a job follows its first one.
        group = {attempt.job.id: attempt for attempt in self._locked}
        for entry in entries:
            work = entry.work
            if isinstance(work, list):
                continue
            if isinstance(work, ObservedAttempt):
                if group.get(work.job.id, work) is not work:
                    yield partial(self._record, list(group.values()))
                    group = {}
                group[work.job.id] = work
                continue
            if group:
                yield partial(self._record, list(group.values()))
                group = {}
            yield work
        if group:
            yield partial(self._record, list(group.values()))

    def _record(self, group: Sequence[ObservedAttempt]) -> None:
        now = time.monotonic()
        locked = set(observed_groups.record_or_refuse(group))
        for attempt in group:
            since = self._locked.pop(attempt, now)
            if attempt in locked and now - since < MAX_LOCKED_SECONDS:
                self._locked[attempt] = since
            elif attempt in locked:
                logger.error("Could not record a Celery task, its row is locked: job %s", attempt.job.id)

    def _run_until_done(self, function: Callable[[], Any]) -> None:
        give_up_at = time.monotonic() + RETRY_SECONDS
        pause = 0.05
        while True:
            try:
                check_connections()
                function()
                keep_connections()  # with CONN_MAX_AGE = 0 each call would open a new one
                reset_queries()
                self._is_away = False
                return
            except DATABASE_UNAVAILABLE as exc:
                if not self._is_away:
                    logger.warning("Could not record a Celery task, which is tried again: %s", exc)
                self._is_away = True
                connections.close_all()
                if time.monotonic() > give_up_at:
                    logger.error("Could not record a Celery task: %s", exc)
                    return
            except BaseException:
                logger.exception("Could not record a Celery task")
                return
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _count_busy_seconds(self, started: float) -> None:
        now = time.monotonic()
        earliest = started - BURST_SECONDS / MAX_BUSY_SHARE
        self._ready_at = max(self._ready_at, earliest) + (now - started) / MAX_BUSY_SHARE

    def _seconds_to_next(self) -> float:
        if self._locked:
            return LOCKED_PAUSE_SECONDS
        due = self._progress.next_due()
        return IDLE_SECONDS if due is None else max(due - time.monotonic(), 0.0)

    def _store_progress(self, store: Store) -> bool:
        try:
            check_connections()
            is_stored = store()
        except DATABASE_UNAVAILABLE as exc:
            if not self._is_progress_failing:
                logger.warning("Could not store the progress of a Celery task, which is tried again: %s", exc)
            self._is_progress_failing = True
            connections.close_all()
            return False
        except Exception:
            logger.exception("Could not store the progress of a Celery task")
            return True
        if is_stored:
            self._is_progress_failing = False
        return is_stored


def _is_start(entry: _Entry) -> bool:
    """Return whether an entry is the start of a task that has not ended yet, for which nobody waits."""
    return isinstance(entry.work, ObservedAttempt) and entry.work.outcome is None and entry.done is None


_recorder = Recorder()


def recorder() -> Recorder:
    """Return the recorder of this process."""
    return _recorder


def _reset() -> None:
    global _recorder
    _recorder = Recorder()


def _drain_at_exit() -> None:
    _recorder.drain(EXIT_SECONDS)


os.register_at_fork(after_in_child=_reset)
atexit.register(_drain_at_exit)

"""The thread on which a process of Celery, or a publisher, records observed tasks.

A connection of its own is not closed with each task, as Celery does with those of its threads, and is in no transaction
of a task. What waits for a database that is away is recorded when it is back, while the tasks go on.

Tasks do not wait for their starts and ends, which are recorded in groups.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connections, reset_queries

from notifications.contrib.celery.progress_reports import ProgressReports, Store
from notifications.contrib.celery.record_queue import MAX_QUEUED_CALLS, Entry, RecordQueue, Work
from notifications.contrib.celery.unknown_owners import log_unknown_owners
from notifications.db import signal_queue
from notifications.db.signal_queue import SignalQueue
from notifications.db.supervised import SupervisedThread
from notifications.db.threads import (
    MAX_CONNECTION_SECONDS,
    NoThread,
    check_connections,
    close_connections,
    keep_connections,
)
from notifications.db.unavailable import QUERY_ERRORS, UNAVAILABLE
from notifications.engines.observed import recording
from notifications.engines.observed.starts import ObservedAttempt
from notifications.jobs.handlers.events import count_jobs_per_end
from notifications.jobs.transitions import notify_functions
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds that a caller waits, unless the database is known to be away.
MAX_WAIT_SECONDS = 2.0
#: Seconds after its first error for which a call is tried again while the database is away, and between two tries at
#: most.
RETRY_SECONDS, MAX_PAUSE_SECONDS = 30.0, 2.0
#: Entries that may wait before threads that add attempts or rows wait for those. A task has two. With 200, tasks waited
#: when a transaction took 0.3 s on a busy machine.
MAX_LAG = 1_000
#: The share of its time for which a publishing thread waits for the rows of its tasks.
MAX_PUBLISHER_SHARE = 0.1
#: Seconds for which a row may be locked by another transaction.
MAX_LOCKED_SECONDS, LOCKED_PAUSE_SECONDS = 10.0, 0.02
#: Seconds after which an idle thread closes its connection.
IDLE_SECONDS = 5.0
#: Seconds that the exit of a process waits for what is not recorded yet.
EXIT_SECONDS = 5.0


class _Publisher(threading.local):
    """When this thread may wait again for the row of a task that it publishes (monotonic)."""

    waits_from = 0.0


class Recorder:
    """Records on one thread of this process. Calls run in order, and attempts in order with them."""

    def __init__(self, queue: RecordQueue | None = None) -> None:
        #: Sends the signals of finished jobs, on a thread of its own: a receiver that hangs delays only others.
        self.signals = SignalQueue()
        self._queue = RecordQueue() if queue is None else queue
        self._thread = SupervisedThread("notifications-celery", self._record_next, session=self._session)
        self._is_away = False
        #: Attempts whose rows are locked by others, since when (monotonic).
        self._locked: dict[ObservedAttempt, float] = {}
        self._publisher = _Publisher()
        self._progress = ProgressReports()
        self._is_progress_failing = False

    def call(
        self, function: Callable[[], Any], *, wait: float = MAX_WAIT_SECONDS, lag_wait: float = 0.0
    ) -> None:
        """Run a call on the thread, and wait until it has run, at most ``wait`` seconds. Raises nothing.

        If ``MAX_LAG`` entries wait already, wait at most ``lag_wait`` seconds, if that is longer.
        """
        self._put(function, wait, lag_wait)

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

    def start(self) -> None:
        """Start the thread before something is added. Raises ``NoThread``."""
        self._thread.wake()

    def drain(self, seconds: float) -> None:
        """Wait until all that was added is recorded, and its signals are sent, at most this long."""
        until = time.monotonic() + seconds
        if calls := notify_functions.open_records():
            futures.wait(calls, timeout=seconds)
        if self._thread.is_running:
            self._is_away = False
            self.call(lambda: None, wait=max(until - time.monotonic(), 0.0))
        self.signals.wait(until - time.monotonic())

    def _put(self, work: Work, wait: float, lag_wait: float = 0.0) -> None:
        """Add an entry, and wait until it is done, at most ``wait`` seconds.

        If ``MAX_LAG`` entries wait already, wait at most ``lag_wait`` seconds, if that is longer.
        """
        waiting = len(self._queue)
        if waiting >= MAX_QUEUED_CALLS:
            log_unrecorded(f"Dropped, {MAX_QUEUED_CALLS} calls wait")
            return
        if waiting >= MAX_LAG:
            wait = max(wait, lag_wait)
        done = threading.Event() if wait and not self._is_away else None
        self._queue.put(work, done=done)
        try:
            self._thread.wake()
        except NoThread as exc:
            logger.warning("Could not record a Celery task: %s", exc)
        else:
            if done:
                done.wait(wait)

    @contextmanager
    def _session(self) -> Iterator[None]:
        signal_queue.use_on_this_thread(self.signals)
        self._opened = time.monotonic()
        yield

    def _record_next(self) -> float:
        """Record the next entries. The queue wakes this thread, because it also lets entries gather."""
        if time.monotonic() - self._opened > MAX_CONNECTION_SECONDS:
            close_connections()
            self._opened = time.monotonic()
        entries = self._queue.take(self._seconds_to_next())
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
        self._queue.add_busy_seconds(time.monotonic() - started)
        return 0.0

    def _calls_for(self, entries: Sequence[Entry]) -> Iterator[Callable[[], Any]]:
        """Yield the calls that do what entries say: rows first, then attempts, in groups, and calls in their order."""
        if rows := [row for entry in entries if isinstance(entry.work, list) for row in entry.work]:
            yield partial(_insert, rows)
        # Those that were locked by others are tried again first: a second attempt at a job follows its first one.
        group = {attempt.id: attempt for attempt in self._locked}
        # The jobs of handlers and webhooks are rows too, for which others would wait longer.
        size = max(1, 2 * self._queue.max_group // (2 + count_jobs_per_end()))
        for entry in entries:
            work = entry.work
            if isinstance(work, list):
                continue
            if isinstance(work, ObservedAttempt):
                if group.get(work.id, work) is not work or len(group) >= size:
                    yield partial(self._record, list(group.values()))
                    group = {}
                group[work.id] = work
                continue
            if group:
                yield partial(self._record, list(group.values()))
                group = {}
            yield work
        if group:
            yield partial(self._record, list(group.values()))

    def _record(self, group: Sequence[ObservedAttempt]) -> None:
        now = time.monotonic()
        locked = set(recording.record_or_refuse(group))
        for attempt in group:
            since = self._locked.pop(attempt, now)
            if attempt in locked and now - since < MAX_LOCKED_SECONDS:
                self._locked[attempt] = since
            elif attempt in locked:
                log_unrecorded(f"job {attempt.id}: its row is locked")

    def _run_until_done(self, function: Callable[[], Any]) -> None:
        give_up_at: float | None = None
        pause = 0.05
        while True:
            started = time.monotonic()
            try:
                check_connections()
                function()
                keep_connections()  # with CONN_MAX_AGE = 0 each call would open a new one
                reset_queries()
                self._is_away = False
                return
            except UNAVAILABLE as exc:
                if not self._is_away:
                    logger.warning("Could not record a Celery task, which is tried again: %s", exc)
                self._is_away = True
                connections.close_all()
                if give_up_at is None:
                    give_up_at = time.monotonic() + RETRY_SECONDS
                # Not by the time of the error: PostgreSQL ends the transaction of a process that is suspended, which
                # then finds the error and the end of the time together.
                if started > give_up_at:
                    log_unrecorded(exc)
                    return
            except BaseException:
                logger.exception("Could not record a Celery task")
                return
            self._queue.wait(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _seconds_to_next(self) -> float:
        if self._locked:
            return LOCKED_PAUSE_SECONDS
        due = self._progress.next_due()
        return IDLE_SECONDS if due is None else max(due - time.monotonic(), 0.0)

    def _store_progress(self, store: Store) -> bool:
        try:
            check_connections()
            is_stored = store()
        except UNAVAILABLE as exc:
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


def log_unrecorded(reason: object) -> None:
    """Log that a record is given up, with how many this process has given up."""
    logger.error("Could not record a Celery task: %s; records given up: %d", reason, next(_unrecorded))


def _insert(rows: list[Job]) -> None:
    recording.insert(rows)
    try:
        log_unknown_owners(rows)
    except QUERY_ERRORS as exc:  # the users may be in another database, which is away
        logger.warning("Could not read the owners of Celery tasks: %s", exc)


_recorder = Recorder()
#: Counts the records that this process has given up.
_unrecorded = itertools.count(1)


def recorder() -> Recorder:
    """Return the recorder of this process."""
    return _recorder


def replace_recorder(recorder: Recorder) -> None:
    """Use another recorder in this process."""
    global _recorder
    _recorder = recorder


def _reset() -> None:
    global _recorder
    _recorder = Recorder()


def _drain_at_exit() -> None:
    _recorder.drain(EXIT_SECONDS)


os.register_at_fork(after_in_child=_reset)
atexit.register(_drain_at_exit)

"""The thread on which a process of Celery, or a publisher, records what was reported of observed tasks.

Tasks do not wait for it. It has a connection of its own, which is in no transaction of a task, and commits what has
come in groups. What waits for a database that is away is tried for as long as the process lives.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connections, reset_queries

from notifications.contrib.celery import held_reports
from notifications.contrib.celery.held_reports import observer
from notifications.db import UNAVAILABLE, connection
from notifications.jobs import ObservedAttempt, Outcome
from notifications.models import Job
from notifications.worker import (
    NoThread,
    SignalQueue,
    SupervisedThread,
    check_connections,
    close_connections,
)

logger = logging.getLogger("notifications.jobs")

#: Seconds that a caller waits, unless the database is known to be away.
MAX_WAIT_SECONDS = 2.0
#: The share of its time for which a publishing thread waits for the rows of its tasks.
MAX_PUBLISHER_SHARE = 0.1
#: Reports that may wait. Of more, progress and starts are dropped: an end is recorded with its start.
MAX_REPORTS = 10_000
#: Attempts that one transaction records. On PostgreSQL an attempt costs 0.11 ms of CPU among 400, 0.14 among 100.
#: SQLite is locked for other writers meanwhile.
MAX_GROUP = {"sqlite": 50, "postgresql": 400}
#: The share of its time for which the thread writes, and seconds for which reports gather at most to keep it.
MAX_BUSY_SHARE, MAX_GATHER_SECONDS = 0.1, 0.3
#: Seconds for which a report waits at least, because the end of a short task follows its start.
MIN_GATHER_SECONDS = 0.01
#: Seconds between two writes of one task's progress.
PROGRESS_INTERVAL_SECONDS = 0.5
#: Seconds between two tries: while a row is locked by another transaction, and at most while the database is away.
LOCKED_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.02, 2.0
#: Seconds between two lines of the log while the database is away.
LOG_INTERVAL_SECONDS = 60.0
#: Seconds after which an idle thread ends, and closes its connection.
IDLE_SECONDS = 5.0
#: Seconds for which the thread keeps a connection at most, so that a moved server or a replaced file is noticed.
MAX_CONNECTION_SECONDS = 30.0
#: Seconds that the exit of a process waits for what is not recorded yet.
EXIT_SECONDS = 5.0

#: An attempt to be recorded, the rows of a published message to be inserted, or a call. A call that returns False has
#: found its row locked, and is made again.
Work = ObservedAttempt | list[Job] | Callable[[], Any]


@dataclass(slots=True, eq=False)
class _Report:
    """Work, and the event that is set when it is done, if a thread waits for that."""

    work: Work
    done: threading.Event | None = None


class _Publisher(threading.local):
    """When this thread may wait again for the row of a task that it publishes (monotonic)."""

    waits_from = 0.0


class Recorder:
    """Records on one thread of this process. Its other methods may be called on any thread, and raise nothing."""

    def __init__(self) -> None:
        #: Sends the signals of finished jobs, on a thread of its own: a receiver that hangs delays only others.
        self.signals = SignalQueue()
        self._reports: deque[_Report] = deque()
        #: When the progress of each running task that has reported some is stored next (monotonic).
        self._progress: dict[ObservedAttempt, float] = {}
        #: Ends the gathering: a thread waits.
        self._is_awaited = threading.Event()
        #: Until when reports gather (monotonic).
        self._gather_until = 0.0
        self._is_away = False
        #: Reports that found their rows locked, and wait.
        self._locked = 0
        #: When dropped reports were last logged (monotonic).
        self._full_logged_at = -LOG_INTERVAL_SECONDS
        self._publisher = _Publisher()
        self._thread = SupervisedThread(
            "notifications-celery",
            self._record_next,
            session=self._session,
            idle_seconds=lambda: IDLE_SECONDS,
        )

    def call(self, function: Callable[[], Any], *, wait: float = MAX_WAIT_SECONDS) -> None:
        """Run a call on the thread, in the order of the calls, and wait for that at most ``wait`` seconds."""
        self._add(function, wait)

    def record(self, attempt: ObservedAttempt) -> None:
        """Record what is known of an attempt, soon."""
        if attempt.outcome is not None or self._has_room():
            self._add(attempt)

    def insert(self, rows: list[Job], *, wait: bool = True) -> None:
        """Insert the rows of a published message, but those that exist.

        With ``wait``, waits for that at most ``MAX_WAIT_SECONDS``, but for no more than ``MAX_PUBLISHER_SHARE`` of this
        thread's time.
        """
        if not self._has_room():
            return
        started = time.monotonic()
        if not wait or started < self._publisher.waits_from:
            self._add(rows)
            return
        self._add(rows, MAX_WAIT_SECONDS)
        ended = time.monotonic()
        self._publisher.waits_from = ended + (ended - started) * (1 / MAX_PUBLISHER_SHARE - 1)

    def report_progress(self, attempt: ObservedAttempt) -> None:
        """Store what a task has reported soon, but at most twice a second."""
        if attempt not in self._progress and self._has_room():
            self._progress[attempt] = attempt.progress_stored_at + PROGRESS_INTERVAL_SECONDS
            self._wake()

    def forget_progress(self, attempt: ObservedAttempt) -> None:
        """Forget what a task has reported that has ended: its end stores it."""
        self._progress.pop(attempt, None)

    def drain(self, seconds: float) -> None:
        """Wait until all that was added is recorded, and its signals are sent, at most this long."""
        until = time.monotonic() + seconds
        self._drain_reports(until)
        if calls := observer.open_calls():
            futures.wait(calls, timeout=max(until - time.monotonic(), 0.0))
        self._drain_reports(until)  # the ends whose functions were called
        self.signals.wait(until - time.monotonic())

    def _drain_reports(self, until: float) -> None:
        if self._reports or self._thread.is_running:
            self._is_away = False
            self.call(lambda: None, wait=max(until - time.monotonic(), 0.0))
        while self._locked and time.monotonic() < until:
            time.sleep(LOCKED_PAUSE_SECONDS)

    def _add(self, work: Work, wait: float = 0.0) -> None:
        done = threading.Event() if wait and not self._is_away else None
        self._reports.append(_Report(work, done))
        if done:
            self._is_awaited.set()
        if self._wake() and done:
            done.wait(wait)

    def _has_room(self) -> bool:
        if len(self._reports) + len(self._progress) < MAX_REPORTS:
            return True
        if (now := time.monotonic()) > self._full_logged_at + LOG_INTERVAL_SECONDS:
            self._full_logged_at = now
            logger.error("Dropping progress and starts of Celery tasks, because %d reports wait", MAX_REPORTS)
        return False

    def _wake(self) -> bool:
        try:
            self._thread.wake()
        except NoThread as exc:  # the next report starts it
            logger.warning("Could not record a Celery task yet: %s", exc)
            return False
        return True

    @contextmanager
    def _session(self) -> Iterator[None]:
        self.signals.use_on_this_thread()
        self._opened = time.monotonic()
        yield

    def _record_next(self) -> float | None:
        """Record what has come. Return the seconds after which there is more to do, None if there is nothing."""
        if self._reports:
            self._is_awaited.wait(max(self._gather_until - time.monotonic(), MIN_GATHER_SECONDS))
        self._is_awaited.clear()
        started = time.monotonic()
        if started - self._opened > MAX_CONNECTION_SECONDS:
            close_connections()
            self._opened = started
        max_group = MAX_GROUP[connection().vendor]
        # A task has two. What is not taken yet counts for MAX_REPORTS.
        reports = [self._reports.popleft() for _ in range(min(len(self._reports), 2 * max_group))]
        again, ready = _held_apart(reports)
        for call in self._calls_for(ready, max_group):
            again += map(_Report, self._run_until_done(call) or ())
        self._reports.extendleft(reversed(again))
        self._locked = len(again)
        held_reports.send_counts(report.work for report in again)
        for report in reports:
            if report.done:
                report.done.set()
        self._store_progress()
        now = time.monotonic()
        pause = LOCKED_PAUSE_SECONDS if again else (now - started) * (1 / MAX_BUSY_SHARE - 1)
        self._gather_until = now + min(pause, MAX_GATHER_SECONDS)
        if self._reports:
            return 0.0
        due = min(list(self._progress.values()), default=None)  # threads of tasks change it
        return None if due is None else max(due - now, MIN_GATHER_SECONDS)

    def _calls_for(self, reports: Sequence[_Report], max_group: int) -> Iterator[Callable[[], Any]]:
        """Yield calls that record these reports: rows first, then attempts, in groups, and calls in their order.

        Each returns what is to be recorded again, because its row was locked, or nothing.
        """
        if rows := [row for report in reports if isinstance(report.work, list) for row in report.work]:
            yield partial(observer.insert, rows)
        group: dict[UUID, ObservedAttempt] = {}
        # The jobs of handlers and webhooks are rows too, for which others would wait longer.
        size = observer.group_size(max_group)
        for report in reports:
            work = report.work
            if isinstance(work, list):
                continue
            attempt = work if isinstance(work, ObservedAttempt) else None
            if attempt is not None and isinstance(attempt.outcome, Outcome) and attempt.outcome.notify:
                yield partial(self._call_notify_function, attempt)
                continue
            # A second attempt at a job follows the first one.
            is_new = attempt is None or group.get(attempt.id, attempt) is not attempt
            if group and (is_new or len(group) >= size):
                yield partial(observer.record, list(group.values()))
                group = {}
            if attempt is not None:
                group[attempt.id] = attempt
            elif callable(work):
                yield partial(held_reports.run_call, work)
        if group:
            yield partial(observer.record, list(group.values()))

    def _call_notify_function(self, attempt: ObservedAttempt) -> list[Work]:
        """Have the notify function of an end called on another thread, and record the end when it has returned.

        Other records, and the next task, do not wait for it.
        """
        end = attempt.outcome
        assert isinstance(end, Outcome)

        def record(ends: Sequence[Outcome]) -> None:
            attempt.outcome = replace(ends[0], notify=None)
            self._add(attempt)

        observer.complete_apart(end, record)
        is_open = observer.is_completing(end)
        # Without a thread it is tried again.
        return [] if is_open or attempt.outcome is not end else [attempt]

    def _run_until_done(self, function: Callable[[], Any]) -> Any:
        """Return what a call returns, which is tried again while the database is away."""
        first_error_at = logged_at = 0.0
        pause = 0.05
        while True:
            try:
                check_connections()
                result = function()
                check_connections(keep=True)  # with CONN_MAX_AGE = 0 each call would open a new one
                reset_queries()
                self._is_away = False
                return result
            except UNAVAILABLE as exc:
                self._is_away = True
                connections.close_all()
                now = time.monotonic()
                # The age is counted from the first error: a process that was suspended has not tried meanwhile.
                first_error_at = first_error_at or now
                if not logged_at or now - logged_at > LOG_INTERVAL_SECONDS:
                    logged_at = now
                    logger.warning(
                        "Could not record Celery tasks for %d s, which is tried again; reports that wait: %d: %s",
                        *(now - first_error_at, len(self._reports), exc),
                    )
            except BaseException as exc:
                logger.exception("Could not record a Celery task")
                log_unrecorded(repr(exc))
                return None
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _store_progress(self) -> None:
        now = time.monotonic()
        for attempt, due in list(self._progress.items()):
            if due > now or self._progress.pop(attempt, None) is None:
                continue
            if attempt.is_begun and not attempt.is_void and attempt.outcome is None:
                attempt.progress_stored_at = now
                self._run_until_done(partial(observer.store_progress, attempt))
            elif not attempt.is_void and attempt.outcome is None:  # it follows the start
                self._progress[attempt] = now + PROGRESS_INTERVAL_SECONDS


def _held_apart(reports: Sequence[_Report]) -> tuple[list[_Report], list[_Report]]:
    """Return the reports of jobs at which a hook of an extension has failed, which wait, and the others."""
    held = held_reports.held_keys(report.work for report in reports)
    waits = [report for report in reports if held_reports.key_of(report.work) in held] if held else []
    return waits, [report for report in reports if report not in waits] if waits else list(reports)


#: Counts the reports that this process has given up.
_unrecorded = itertools.count(1)


def log_unrecorded(reason: object) -> None:
    """Log that a report is given up, with how many this process has given up."""
    logger.error("Could not record a Celery task: %s; records given up: %d", reason, next(_unrecorded))


#: The recorder of this process.
recorder = Recorder()

os.register_at_fork(after_in_child=lambda: recorder.__init__())  # type: ignore[misc]
atexit.register(lambda: recorder.drain(EXIT_SECONDS))

"""The thread on which a process of Celery, or a publisher on an event loop, records observed tasks.

A connection of its own is not closed with each task, as Celery does with those of its threads, and is in no transaction
of a task. What waits for a database that is away is recorded in order when it is back, while the tasks go on.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError, connections

from notifications.db.deadlines import limit_this_thread
from notifications.db.threads import (
    MAX_CONNECTION_SECONDS,
    NoThread,
    check_connections,
    close_connections,
    keep_connections,
    start_thread,
)

logger = logging.getLogger("notifications.jobs")

DATABASE_UNAVAILABLE = (OperationalError, InterfaceError)
#: Seconds that a task waits for one call, unless the database is known to be away.
MAX_WAIT_SECONDS = 2.0
#: Seconds for which a call is tried again while the database is away, and between two tries at most.
RETRY_SECONDS, MAX_PAUSE_SECONDS = 30.0, 2.0
#: Calls that may wait. Further ones are dropped, and the reconciler finds out what became of their tasks.
MAX_QUEUED_CALLS = 1_000
#: Seconds after which an idle thread closes its connection.
IDLE_SECONDS = 5.0
#: Seconds between two writes of one task's progress.
PROGRESS_INTERVAL_SECONDS = 0.5


class Recorder:
    """Runs calls in order on one thread of this process."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], threading.Event]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_away = False
        #: The latest report of progress of each task: when it is due (monotonic), and the call that stores it.
        self._progress: dict[Any, tuple[float, Callable[[], Any]]] = {}
        self._stored_progress_at: dict[Any, float] = {}

    def call(self, function: Callable[[], Any], *, wait: float = MAX_WAIT_SECONDS) -> None:
        """Run a call on the thread, and wait until it has run, at most ``wait`` seconds. Raises nothing."""
        if self._calls.qsize() >= MAX_QUEUED_CALLS:
            logger.error("Dropped what is to be recorded of a Celery task: %d calls wait", MAX_QUEUED_CALLS)
            return
        done = threading.Event()
        is_away = self._is_away
        self._calls.put((function, done))
        if self._ensure_thread() and wait and not is_away:
            done.wait(wait)

    def report(self, key: Any, store: Callable[[], Any]) -> None:
        """Run ``store`` soon, but once in ``PROGRESS_INTERVAL_SECONDS`` for a key, and then the latest one."""
        due = self._stored_progress_at.get(key, 0.0) + PROGRESS_INTERVAL_SECONDS
        is_first = key not in self._progress
        self._progress[key] = due, store
        if is_first:
            self.call(lambda: None, wait=0)  # wakes the thread, which then waits until the report is due

    def forget(self, key: Any) -> None:
        """Drop a report that was not stored: the task has ended."""
        self._progress.pop(key, None)
        self._stored_progress_at.pop(key, None)

    def drain(self, seconds: float) -> None:
        """Wait until all calls have run, at most this long."""
        if self._thread is not None:
            self._is_away = False
            self.call(lambda: None, wait=seconds)

    def _ensure_thread(self) -> bool:
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
        opened = time.monotonic()
        while True:
            if time.monotonic() - opened > MAX_CONNECTION_SECONDS:
                close_connections()
                opened = time.monotonic()
            try:
                function, done = self._calls.get(timeout=self._seconds_to_next())
            except queue.Empty:
                if not self._progress:
                    close_connections()
            else:
                self._run_until_done(function)
                done.set()
            self._store_progress()

    def _run_until_done(self, function: Callable[[], Any]) -> None:
        give_up_at = time.monotonic() + RETRY_SECONDS
        pause = 0.05
        while True:
            try:
                check_connections()
                function()
                keep_connections()  # with CONN_MAX_AGE = 0 each call would open a new one
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

    def _seconds_to_next(self) -> float:
        due = min((due for due, _ in list(self._progress.values())), default=None)
        return IDLE_SECONDS if due is None else max(due - time.monotonic(), 0.0)

    def _store_progress(self) -> None:
        now = time.monotonic()
        for key, (due, store) in list(self._progress.items()):
            if due <= now and self._progress.pop(key, None) is not None:  # the task may just have ended
                self._stored_progress_at[key] = now
                try:
                    check_connections()
                    store()
                except DATABASE_UNAVAILABLE as exc:
                    logger.warning("Could not store the progress of a Celery task: %s", exc)
                    connections.close_all()
                except Exception:
                    logger.exception("Could not store the progress of a Celery task")


_recorder = Recorder()


def recorder() -> Recorder:
    """Return the recorder of this process."""
    return _recorder


def _reset() -> None:
    global _recorder
    _recorder = Recorder()


os.register_at_fork(after_in_child=_reset)

"""A thread of this process that works while there is something to do, and is started again when it is needed."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from weakref import WeakSet

from notifications.db.deadlines import limit_this_thread
from notifications.db.thread_connections import close_connections
from notifications.db.threads import start_thread
from notifications.db.unavailable import log_retried
from notifications.extension.log_throttle import forget_logged

logger = logging.getLogger("notifications.jobs")

#: Seconds until the work goes on after an error that it did not handle: the first pause, doubled up to the longest one.
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.1, 5.0


class SupervisedThread:
    """Calls ``work`` on a daemon thread, which is started by the first ``wake()`` and ends when it is idle.

    ``work``
        Called after each ``wake()``, once for those that came meanwhile. Returns the seconds after which it is called
        again without one; None: there is nothing to do until the next one. An error that it raises is logged, and it
        is called again after a pause.
    ``session``
        Returns the context in which the thread works: a subscription, or a connection. After an error it is entered
        again. Connections of Django are closed at its end.
    ``idle_seconds``
        Returns the seconds after which the thread ends when there is nothing to do; None: it stays.
    ``is_limited``
        Whether calls of the database on the thread have deadlines.
    ``max_pause``
        Returns the longest pause after an error, in seconds.
    ``has_trace``
        Whether an error that is not about the database is logged with its traceback.

    A forked process has no such thread, and starts its own. What is to be done belongs to the owner, who takes it
    under a lock of their own: a ``wake()`` that comes while the thread ends starts another one.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], float | None],
        *,
        session: Callable[[], AbstractContextManager[object]] = nullcontext,
        idle_seconds: Callable[[], float | None] = lambda: None,
        is_limited: bool = True,
        max_pause: Callable[[], float] = lambda: 1.5 * MAX_RETRY_SECONDS,
        has_trace: bool = True,
    ) -> None:
        self._name = name
        self._work = work
        self._session = session
        self._idle_seconds = idle_seconds
        self._is_limited = is_limited
        self._max_pause = max_pause
        self._has_trace = has_trace
        self._failure = f"A thread failed, and goes on: {name}"
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._has_failed = False

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    @property
    def is_stopped(self) -> bool:
        """Whether ``stop()`` was called."""
        return self._stopped.is_set()

    def wake(self) -> None:
        """Have ``work`` called soon. After ``stop()`` this has no effect.

        Raises ``NoThread`` if the thread is not there and cannot be started; the next call tries again.
        """
        if not self._woken.is_set():  # setting it takes a lock
            self._woken.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped.is_set():
                    self._thread = start_thread(self.run, self._name)

    def stop(self, timeout: float = 0.0) -> None:
        """End the thread after the call that runs, and wait for that at most ``timeout`` seconds."""
        with self._lock:
            self._stopped.set()
            thread = self._thread
        self._woken.set()
        self._interrupt()
        if thread and thread is not threading.current_thread():
            thread.join(timeout)

    def _interrupt(self) -> None:
        """End what the work waits for, because of ``stop()``."""

    def note_success(self) -> None:
        """Log that the work goes on after an error. Work that lasts calls it; other work has succeeded at its end."""
        if self._has_failed:
            self._has_failed = False
            forget_logged(self._failure)
            logger.info("A thread works again: %s", self._name)

    def pause(self, seconds: float) -> None:
        """Wait, in ``work``, until the seconds are over or the thread is stopped."""
        self._stopped.wait(seconds)

    def run(self) -> None:
        """Work until there is nothing to do, or until ``stop()``: what the thread does, on the thread of a caller."""
        with self._lock:
            self._thread = threading.current_thread()
        try:
            if self._is_limited:
                limit_this_thread()
            while not self._stopped.is_set():
                started = time.monotonic()
                try:
                    with self._session():
                        self._work_until_idle()
                        return
                except (
                    BaseException
                ) as exc:  # SystemExit of a library too: nothing else would go on with the work
                    self._has_failed = True
                    log_retried(logger, self._failure, exc, has_trace=self._has_trace)
                finally:
                    close_connections()
                if self._thread is not threading.current_thread():
                    return  # it was given up before the end of its session failed, and another one may have started
                if time.monotonic() - started > MAX_RETRY_SECONDS:
                    self._retry_seconds = FIRST_RETRY_SECONDS
                self._stopped.wait(min(self._retry_seconds * random.uniform(1, 1.5), self._max_pause()))
                self._retry_seconds = min(2 * self._retry_seconds, MAX_RETRY_SECONDS)
        finally:  # out of memory in the handler of the error, for example
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _work_until_idle(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            seconds = self._work()
            self._retry_seconds = FIRST_RETRY_SECONDS
            self.note_success()
            if seconds is None:
                if not self._woken.wait(self._idle_seconds()) and self._has_ended():
                    return
            elif seconds > 0:
                self._woken.wait(seconds)

    def _has_ended(self) -> bool:
        """Give up the thread, unless a ``wake()`` has come meanwhile, which may have found it running."""
        with self._lock:
            thread, self._thread = self._thread, None
            if self._woken.is_set():
                self._thread = thread
            return self._thread is None


_all: WeakSet[SupervisedThread] = WeakSet()


def _after_fork() -> None:
    for thread in list(_all):
        thread._reset()


os.register_at_fork(after_in_child=_after_fork)

"""Threads that run Django code outside a request: daemons, with their database connections looked after."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from django.db import connections

logger = logging.getLogger("notifications.jobs")


class DaemonExecutor(Executor):
    """At most ``size`` threads that are started when they are needed and never keep the process from ending.

    A connection that broke is replaced before the next call, one that a call left inside a transaction after it.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._lock:
            if self._ended:
                raise RuntimeError(f"The threads {self._name} have ended.")
            future: Future[Any] = Future()
            self._calls.put((future, lambda: fn(*args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when their calls are done; nobody is waited for."""
        with self._lock:
            self._ended = True
            for _ in range(self._threads):
                self._calls.put(None)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                connections.close_all()
                return
            future, work = call
            if future.set_running_or_notify_cancel():
                self._call(future, work)
            del call, future, work
            self._idle.release()

    def _call(self, future: Future[Any], work: Callable[[], Any]) -> None:
        try:
            check_connections()
            result = work()
        except StopIteration as exc:  # asyncio's futures do not take it: who waits would wait for ever
            error = RuntimeError(f"It raised {exc!r}.")
            error.__cause__ = exc
            future.set_exception(error)
        except BaseException as exc:
            future.set_exception(exc)
        else:
            future.set_result(result)
        try:
            check_connections()
        except Exception:  # the thread has more to do than this call
            logger.exception("A connection could not be closed.")


def check_connections() -> None:
    """Close this thread's connections that broke, are too old, or were left inside a transaction."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            # As if the connection were new: Django would refuse to open another one inside the block that was
            # left open.
            connection.in_atomic_block = False
            connection.savepoint_ids.clear()
            connection.atomic_blocks.clear()
            connection.run_on_commit.clear()
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()

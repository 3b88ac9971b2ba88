"""Threads that run Django code outside a request: daemons, with their database connections looked after."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("notifications.jobs")


#: Threads at most, for each that there may be, when calls that are written off hold some.
REPLACED = 4
#: Seconds after which an idle thread closes the connections that it keeps.
IDLE = 5.0


_here = threading.local()


class NoThread(Exception):
    """All threads that there may be are held by calls that were written off."""


class DaemonExecutor(Executor):
    """At most ``size`` threads that are started when they are needed and never keep the process from ending.

    A connection that broke is replaced before the next call, one that a call left inside a transaction after it; such a
    call has failed, whatever it returned: its work is undone.

    ``keep_connections``
        Connections stay open for the next call although ``CONN_MAX_AGE`` is 0, and are closed after a few idle
        seconds: for threads on which a call is one query, not a job or a request.
    """

    def __init__(self, size: int, name: str, *, keep_connections: bool = False) -> None:
        self._size = size
        self._name = name
        self._keep_connections = keep_connections
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._threads = 0
        #: Calls that are not done, without those written off.
        self._open = 0
        self._written_off: set[Future[Any]] = set()
        self._lent: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future of the call. Raises ``NoThread`` when it would wait for a call that was written off."""
        with self._lock:
            if self._ended:
                raise RuntimeError(f"The threads {self._name} have ended.")
            if self._hang():
                raise self._no_thread()
            future: Future[Any] = Future()
            self._calls.put((future, lambda: fn(*args, **kwargs)))
            self._open += 1
            self._start_thread_if_needed()
        return future

    def write_off(self, future: Future[Any]) -> bool:
        """Let another thread do the work of the one that is in this call, for which nobody waits any more.

        Returns False if the call does not run. A thread that comes back from such a call ends if it is one too many.
        When all that there may be are in such calls, the calls in line fail with ``NoThread``.
        """
        with self._lock:
            if self._ended or future in self._written_off or not future.running():
                return False
            self._written_off.add(future)
            self._open -= 1
            self._start_thread_if_needed()
            while self._hang() and not self._calls.empty():
                if call := self._calls.get():
                    self._open -= 1
                    if call[0].set_running_or_notify_cancel():
                        call[0].set_exception(self._no_thread())
        return True

    @contextlib.contextmanager
    def lent(self, future: Future[Any]) -> Iterator[None]:
        """Let another thread do the work of the one that is in this call, until the end of the block: it only waits."""
        with self._lock:
            self._lent.add(future)
            if not self._ended:
                self._start_thread_if_needed()
        try:
            yield
        finally:
            with self._lock:
                self._lent.discard(future)

    def runs_this_thread(self) -> bool:
        """Whether the caller is on one of these threads."""
        return getattr(_here, "executor", None) is self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when their calls are done; nobody is waited for."""
        with self._lock:
            self._ended = True
            for _ in range(self._threads):
                self._calls.put(None)

    def _start_thread_if_needed(self) -> None:
        at_work = self._threads - len(self._written_off | self._lent)
        wanted = min(self._open - len(self._lent - self._written_off), self._size)
        if at_work < wanted and self._threads < self._size * REPLACED + len(self._lent):
            self._threads += 1
            name = f"{self._name}-{next(self._numbers)}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def _hang(self) -> bool:
        return len(self._written_off) >= self._size * REPLACED

    def _no_thread(self) -> NoThread:
        return NoThread(f"All {self._threads} threads {self._name} are in calls that do not end.")

    def _run(self) -> None:
        _here.executor = self
        while call := self._next():
            future, work = call
            if future.set_running_or_notify_cancel():
                self._call(future, work)
            if self._is_one_too_many(future):
                break
            del call, future, work
        close_connections()

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        if self._keep_connections:
            try:
                return self._calls.get(timeout=IDLE)
            except queue.Empty:
                close_connections()
        return self._calls.get()

    def _is_one_too_many(self, future: Future[Any]) -> bool:
        with self._lock:
            if future in self._written_off:
                self._written_off.remove(future)
            else:
                self._open -= 1
            if self._ended or self._threads - len(self._written_off | self._lent) <= self._size:
                return False
            self._threads -= 1
            return True

    def _call(self, future: Future[Any], work: Callable[[], Any]) -> None:
        try:
            check_connections()
            result = work()
            if any(map(in_transaction, connections.all(initialized_only=True))):
                raise transaction.TransactionManagementError(
                    "This left a transaction open, which is rolled back. Use `with transaction.atomic():`."
                )
        except StopIteration as exc:  # asyncio's futures do not take it: who waits would wait for ever
            error = RuntimeError(f"It raised {exc!r}.")
            error.__cause__ = exc
            future.set_exception(error)
        except BaseException as exc:
            future.set_exception(exc)
        else:
            future.set_result(result)
        try:
            if self._keep_connections:
                keep_connections()
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
        elif in_transaction(connection):
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open: of ``atomic()``, or begun with autocommit off or by a BEGIN."""
    raw = connection.connection
    if connection.in_atomic_block or raw is None:
        return connection.in_atomic_block
    try:
        if connection.vendor == "sqlite":
            return raw.in_transaction
        if connection.vendor == "postgresql":
            return raw.info.transaction_status in (
                1,
                2,
                3,
            )  # active, in a transaction, in a failed one (libpq)
    except connection.Database.Error:
        return False  # it is broken, and with it any transaction
    return not connection.autocommit


def keep_connections() -> None:
    """Let this thread's connections outlive the call, but those with an error, or lent by a pool of Django's."""
    for connection in connections.all(initialized_only=True):
        lent = connection.settings_dict["OPTIONS"].get("pool")
        if not connection.settings_dict["CONN_MAX_AGE"] and not lent:
            connection.close_at = 0 if connection.errors_occurred else None


def close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        with contextlib.suppress(Exception):  # it is broken already
            connection.close()

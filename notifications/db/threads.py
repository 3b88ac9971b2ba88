"""Daemon threads that run Django code outside a request, and maintain their database connections."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.deadlines import set_options_of_this_thread
from notifications.db.dialects import find_dialect
from notifications.db.unusable import discard

logger = logging.getLogger("notifications.jobs")

#: Threads at most for each slot of an executor, while calls that were detached occupy some.
MAX_THREADS_PER_SLOT = 4
#: Seconds after which an idle thread closes its connections.
IDLE_SECONDS = 5.0
#: Seconds for which a thread keeps a connection at most, so that a moved server or a replaced file is noticed.
MAX_CONNECTION_SECONDS = 30.0

_thread_local = threading.local()


class NoThread(RuntimeError):
    """No thread can take a call: calls that were detached occupy all, or the process cannot start more."""


def start_thread(target: Callable[..., object], name: str, *args: Any) -> threading.Thread:
    """Start and return a daemon thread that calls ``target(*args)``. Raises ``NoThread`` if the process cannot.

    Use the return value as the mark that the thread is running, so that the mark is never set without a thread.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    start(thread)
    return thread


def start(thread: threading.Thread) -> None:
    """Start a thread. Raises ``NoThread`` if the process cannot start more; the thread can be started later."""
    try:
        thread.start()
    except RuntimeError as exc:
        raise NoThread(f"{exc}: the thread {thread.name} was not started.") from exc


class DaemonExecutor(Executor):
    """An executor of at most ``size`` daemon threads, which are started when needed and do not keep the process alive.

    Broken connections are replaced before the next call. One that leaves a transaction open fails: that is rolled back.

    ``keep_connections``
        Keep connections open for the next call although ``CONN_MAX_AGE`` is 0, and close them after
        ``idle_seconds``: for threads on which a call is one query, not a job or a request.
    ``idle_seconds``
        How long a thread is idle before it closes what it keeps: see ``close_when_idle()``.
    """

    def __init__(
        self, size: int, name: str, *, keep_connections: bool = False, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._size = size
        self._name = name
        self._keep_connections = keep_connections
        self._idle_seconds = idle_seconds
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._threads: set[threading.Thread] = set()
        #: Number of calls that are not done, without those detached.
        self._open = 0
        self._detached: set[Future[Any]] = set()
        self._released: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future of the call, which is queued while all threads are busy.

        Raises ``NoThread``, and never runs it, if no thread can be started now, or all are in calls that were detached.
        """
        with self._lock:
            if self._ended:
                raise RuntimeError(f"The executor {self._name} is shut down.")
            self._open += 1
            try:
                # Before the call is queued, because it could not be removed from the queue.
                self._ensure_thread()
            except NoThread:
                self._open -= 1
                raise
            future: Future[Any] = Future()
            self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def detach(self, future: Future[Any]) -> bool:
        """Replace the thread that is in this call, whose result is not needed. Returns False if the call does not run.

        A thread that returns from such a call ends if there are more than ``size``. If there is no other thread for the
        queued calls, they fail with ``NoThread``.
        """
        with self._lock:
            if self._ended or future in self._detached or not future.running():
                return False
            self._detached.add(future)
            self._open -= 1
            try:
                self._ensure_thread()
            except NoThread as exc:
                self._fail_queued_calls(exc)
        return True

    @contextlib.contextmanager
    def release_thread(self, future: Future[Any]) -> Iterator[None]:
        """Let another thread take calls until the end of the block, while the thread in this call only waits."""
        with self._lock:
            self._released.add(future)
            if not self._ended:
                self._start_missing_thread()
        try:
            yield
        finally:
            with self._lock:
                self._released.discard(future)

    def start_missing_thread(self) -> None:
        """Start a thread for queued calls if it could not be started when they were submitted."""
        with self._lock:
            if not self._ended:
                self._start_missing_thread()

    def runs_this_thread(self) -> bool:
        """Return whether the caller runs on one of these threads."""
        return getattr(_thread_local, "executor", None) is self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when their calls are done. Does not wait for them."""
        self.end()

    def end(self) -> list[threading.Thread]:
        """End the threads when their calls are done, and return them."""
        with self._lock:
            self._ended = True
            for _ in self._threads:
                self._calls.put(None)
            return list(self._threads)

    def _ensure_thread(self) -> None:
        """Start a thread if one is needed. Raises ``NoThread`` if none can take the next call."""
        error: NoThread | None = None
        busy = len(self._detached | self._released)
        needed = min(self._open - len(self._released - self._detached), self._size)
        at_work = len(self._threads) - busy
        if at_work < needed and len(self._threads) < self._size * MAX_THREADS_PER_SLOT + len(self._released):
            try:
                self._threads.add(start_thread(self._run, f"{self._name}-{next(self._numbers)}"))
                return
            except NoThread as exc:
                error = exc
        if at_work <= 0:
            raise error or NoThread(
                f"All {len(self._threads)} threads of {self._name} are in calls that do not end."
            )

    def _start_missing_thread(self) -> None:
        with contextlib.suppress(NoThread):  # queued calls wait, and the next submit raises
            self._ensure_thread()

    def _fail_queued_calls(self, error: BaseException) -> None:
        while not self._calls.empty():
            if call := self._calls.get():
                self._open -= 1
                if call[0].set_running_or_notify_cancel():
                    call[0].set_exception(error)

    def _run(self) -> None:
        _thread_local.executor = self
        _thread_local.close_kept = close_connections if self._keep_connections else None
        try:
            self._take_calls()
        except BaseException as exc:  # no memory, between two calls
            self._replace_this_thread(exc)
        finally:
            if close_kept := _thread_local.close_kept:
                close_kept()
            close_connections()

    def _replace_this_thread(self, error: BaseException) -> None:
        """Start another thread in place of this one, which fails. Without one, queued calls would wait for ever."""
        with self._lock:
            self._threads.discard(threading.current_thread())
            try:
                self._ensure_thread()
            except NoThread:
                self._fail_queued_calls(error)
        logger.error("A thread failed, and was replaced: %s", self._name, exc_info=error)

    def _take_calls(self) -> None:
        opened = time.monotonic()
        while call := self._next():
            if self._keep_connections and time.monotonic() - opened > MAX_CONNECTION_SECONDS:
                close_connections()
                opened = time.monotonic()
            future, work = call
            try:
                if future.set_running_or_notify_cancel():
                    self._call(future, work)
            except BaseException as exc:
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(exc)
                raise
            finally:
                is_surplus = self._is_surplus(future)
            if is_surplus:
                break
            del call, future, work

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        if close_kept := _thread_local.close_kept:
            try:
                return self._calls.get(timeout=self._idle_seconds)
            except queue.Empty:
                close_kept()
        return self._calls.get()

    def _is_surplus(self, future: Future[Any]) -> bool:
        """Return whether this thread, which has finished this call, must end, and forget it then."""
        with self._lock:
            if future in self._detached:
                self._detached.remove(future)
            else:
                self._open -= 1
            if self._ended:
                return False
            if len(self._threads) - len(self._detached | self._released) <= self._size:
                self._start_missing_thread()
                return False
            self._threads.discard(threading.current_thread())
            return True

    def _call(self, future: Future[Any], work: Callable[[], Any]) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            set_options_of_this_thread()
            if not self._keep_connections:  # what is kept was checked after the last call, some seconds ago
                check_connections()
            result = work()
        except StopIteration as exc:  # asyncio's futures refuse it: a waiting coroutine would never resume
            error = RuntimeError(f"The call raised {exc!r}.")
            error.__cause__ = exc
        except BaseException as exc:
            error = exc
        try:
            if check_connections(keep=self._keep_connections) and error is None:
                error = transaction.TransactionManagementError(
                    "The call left a transaction open, which was rolled back. Use `with transaction.atomic():`."
                )
        except Exception:  # the thread has further calls to run
            logger.exception("Could not close a database connection")
        # After the connections are returned, so that a waiting thread finds one in the pool.
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
        del error  # a reference cycle with this frame otherwise


def close_when_idle(close: Callable[[], object]) -> bool:
    """Have ``close``, which raises nothing, called when this thread has been idle for a while, or ends.

    Returns False, and does nothing, on a thread that no ``DaemonExecutor`` has started.
    """
    if not hasattr(_thread_local, "executor"):
        return False
    _thread_local.close_kept = close
    return True


def check_connections(*, keep: bool = False) -> bool:
    """Close connections of this thread that are too old, had an error, or are inside a transaction.

    Returns whether one was inside a transaction. The call may have caught the error, and Django tries a connection by a
    query only: see ``unusable.py``. ``keep`` leaves them open whatever ``CONN_MAX_AGE`` says, but those of a pool of
    Django's.
    """
    had_transaction = False
    for connection in connections.all(initialized_only=True):
        settings = connection.settings_dict
        if keep and not settings["CONN_MAX_AGE"] and not settings["OPTIONS"].get("pool"):
            connection.close_at = None
        is_in_transaction = in_transaction(connection)
        if connection.in_atomic_block:
            # Reset the state as of a new connection: Django refuses to connect inside an atomic block.
            connection.in_atomic_block = False
            connection.savepoint_ids.clear()
            connection.atomic_blocks.clear()
            connection.run_on_commit.clear()
        if is_in_transaction or connection.errors_occurred:
            had_transaction |= is_in_transaction
            discard(connection)
        else:
            connection.close_if_unusable_or_obsolete()
    return had_transaction


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open: by ``atomic()``, with autocommit off, or by BEGIN."""
    if connection.connection is None or connection.in_atomic_block:
        return connection.in_atomic_block
    try:
        if found := find_dialect(connection):
            return found.has_open_transaction(connection)
    except connection.Database.Error:
        return False  # it is broken, and with it any transaction
    return not connection.autocommit


def is_in_use(db: BaseDatabaseWrapper) -> bool:
    """Return whether a connection is in an atomic block, or open without autocommit: to close it would lose work."""
    return db.in_atomic_block or (db.connection is not None and not db.autocommit)


def close_idle_connections() -> None:
    """Close the connections of this thread, except those in use."""
    for db in connections.all(initialized_only=True):
        if not is_in_use(db):
            db.close()


def close_connections() -> None:
    """Close all connections of Django on this thread, broken ones too."""
    for connection in connections.all(initialized_only=True):
        with contextlib.suppress(Exception):  # the connection is broken
            connection.close()

"""Threads that run Django code outside a request: daemons, with their database connections looked after."""

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

logger = logging.getLogger("notifications.jobs")


#: Threads at most, for each that there may be, when calls that are written off hold some.
MAX_THREADS_PER_SLOT = 4
#: Seconds after which an idle thread closes the connections that it keeps.
IDLE_SECONDS = 5.0
#: Seconds for which a thread keeps its connections at most, so that a moved server or a replaced file is noticed.
MAX_CONNECTION_SECONDS = 30.0


_thread_local = threading.local()


class NoThread(RuntimeError):
    """No thread can take a call: calls that were written off hold them all, or the process may start no more."""


def start_thread(target: Callable[..., object], name: str, *args: Any) -> threading.Thread:
    """Return a daemon thread that calls ``target(*args)``. Raises ``NoThread`` if the process may start no more.

    Assign the return value to what marks the thread as running, so that it is never marked without being there.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    start(thread)
    return thread


def start(thread: threading.Thread) -> None:
    """Start a thread. Raises ``NoThread`` if the process may start no more; it can be started again then."""
    try:
        thread.start()
    except RuntimeError as exc:
        raise NoThread(f"{exc}: the thread {thread.name} is not started.") from exc


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
        self._threads: set[threading.Thread] = set()
        #: Calls that are not done, without those written off.
        self._open = 0
        self._written_off: set[Future[Any]] = set()
        self._lent: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future of the call, which waits in line while all threads are busy.

        Raises ``NoThread`` if no thread would ever take it: none can be started now, or all are in calls that were
        written off. A call whose ``submit`` raised never runs.
        """
        with self._lock:
            if self._ended:
                raise RuntimeError(f"The threads {self._name} have ended.")
            self._open += 1
            try:
                # Before the call is in line, from which it could not be taken out again.
                self._ensure_thread()
            except NoThread:
                self._open -= 1
                raise
            future: Future[Any] = Future()
            self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def write_off(self, future: Future[Any]) -> bool:
        """Let another thread do the work of the one that is in this call, for which nobody waits any more.

        Returns False if the call does not run. A thread that comes back from such a call ends if it is one too many.
        If there is no other thread for the calls in line, they fail with ``NoThread``.
        """
        with self._lock:
            if self._ended or future in self._written_off or not future.running():
                return False
            self._written_off.add(future)
            self._open -= 1
            try:
                self._ensure_thread()
            except NoThread as exc:
                while not self._calls.empty():
                    if call := self._calls.get():
                        self._open -= 1
                        if call[0].set_running_or_notify_cancel():
                            call[0].set_exception(exc)
        return True

    def abandon(self, future: Future[Any], error: BaseException) -> None:
        """Fail a call that runs, and let another thread do the work of the one that is in it."""
        if self.write_off(future):
            with contextlib.suppress(InvalidStateError):  # it ends at this moment
                future.set_exception(error)

    @contextlib.contextmanager
    def lend_thread(self, future: Future[Any]) -> Iterator[None]:
        """Let another thread do the work of the one that is in this call, until the end of the block: it only waits."""
        with self._lock:
            self._lent.add(future)
            if not self._ended:
                self._start_missing_thread()
        try:
            yield
        finally:
            with self._lock:
                self._lent.discard(future)

    def start_missing_thread(self) -> None:
        """Start a thread for calls in line that would have got one, had it been possible to start it then."""
        with self._lock:
            if not self._ended:
                self._start_missing_thread()

    def runs_this_thread(self) -> bool:
        """Whether the caller is on one of these threads."""
        return getattr(_thread_local, "executor", None) is self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when their calls are done; nobody is waited for."""
        self.end()

    def end(self) -> list[threading.Thread]:
        """End the threads when their calls are done, and return them."""
        with self._lock:
            self._ended = True
            for _ in self._threads:
                self._calls.put(None)
            return list(self._threads)

    def _ensure_thread(self) -> None:
        """Start a thread if one is missing. Raises ``NoThread`` if there is none to take the next call."""
        error: NoThread | None = None
        busy = len(self._written_off | self._lent)
        wanted = min(self._open - len(self._lent - self._written_off), self._size)
        at_work = len(self._threads) - busy
        if at_work < wanted and len(self._threads) < self._size * MAX_THREADS_PER_SLOT + len(self._lent):
            try:
                self._threads.add(start_thread(self._run, f"{self._name}-{next(self._numbers)}"))
                return
            except NoThread as exc:
                error = exc
        if at_work <= 0:
            raise error or NoThread(
                f"All {len(self._threads)} threads {self._name} are in calls that do not end."
            )

    def _start_missing_thread(self) -> None:
        with contextlib.suppress(NoThread):  # the calls wait, or the next one is refused
            self._ensure_thread()

    def _run(self) -> None:
        _thread_local.executor = self
        set_options_of_this_thread()
        opened = time.monotonic()
        while call := self._next():
            if self._keep_connections and time.monotonic() - opened > MAX_CONNECTION_SECONDS:
                close_connections()
                opened = time.monotonic()
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
                return self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                close_connections()
        return self._calls.get()

    def _is_one_too_many(self, future: Future[Any]) -> bool:
        with self._lock:
            if future in self._written_off:
                self._written_off.remove(future)
            else:
                self._open -= 1
            if self._ended:
                return False
            if len(self._threads) - len(self._written_off | self._lent) <= self._size:
                self._start_missing_thread()
                return False
            self._threads.discard(threading.current_thread())
            return True

    def _call(self, future: Future[Any], work: Callable[[], Any]) -> None:
        _thread_local.call = future
        result: Any = None
        error: BaseException | None = None
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
        except BaseException as exc:
            error = exc
        try:
            if self._keep_connections:
                keep_connections()
            check_connections()
        except Exception:  # the thread has more to do than this call
            logger.exception("A connection could not be closed.")
        _thread_local.call = None
        # After that, so that who waits finds a connection of a pool given back.
        with contextlib.suppress(InvalidStateError):  # it was abandoned
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        del error  # it refers to this frame, and this frame would to it


def current_call() -> tuple[DaemonExecutor, Future[Any]] | None:
    """Return the executor and the call that this thread is in, if it is one of an executor's."""
    future = getattr(_thread_local, "call", None)
    return future and (_thread_local.executor, future)


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

"""Daemon threads that run Django code outside a request, and maintain their database connections.

``DaemonExecutor`` is the one executor of calls. A loop that waits for rings or times is no call: see ``supervised.py``.
The calls of an async job run in order, and on the thread whose session the job has changed: see ``job_threads.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from django.db import transaction

from notifications.db import job_sessions
from notifications.db.deadlines import limit_this_thread, set_options_of_this_thread
from notifications.db.thread_calls import ThreadCall, without_base_exceptions
from notifications.db.thread_connections import check_connections, close_connections

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

    It closes its connections at the end. Use the return value as the mark that the thread is running.
    """
    thread = threading.Thread(target=_run_and_close, args=(target, *args), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as exc:
        raise NoThread(f"{exc}: the thread {name} was not started.") from exc
    return thread


def _run_and_close(target: Callable[..., object], *args: Any) -> None:
    try:
        target(*args)
    finally:
        close_connections()


class DaemonExecutor(Executor):
    """An executor of at most ``size`` daemon threads, which are started when needed and do not keep the process alive.

    Calls begin in the order in which they are submitted; what bounds those that wait is their caller's. A call that
    does not return is given up by ``detach()`` or ``give_up()``, and counted: another thread takes its place. Broken
    connections are replaced before the next call. A call that leaves a transaction open fails: that is rolled back.

    ``keep_connections``
        Keep connections open for the next call although ``CONN_MAX_AGE`` is 0, and close them after
        ``idle_seconds``: where a call is one query, not a job or a request.
    ``idle_seconds``
        How long a thread is idle before it closes what it keeps: see ``close_when_idle()``.
    ``close_kept``
        Closes the connections that a thread keeps; all of them by default.
    ``renews_sessions``
        Each call is a job: what it sets in its session reaches no other one. See ``job_sessions.py``.
    ``is_limited``
        Give up connections that do not answer: for calls of the app's own. See ``deadlines.py``.
    """

    def __init__(
        self,
        size: int,
        name: str,
        *,
        keep_connections: bool = False,
        idle_seconds: float = IDLE_SECONDS,
        close_kept: Callable[[], object] | None = None,
        renews_sessions: bool = False,
        is_limited: bool = False,
    ) -> None:
        self._size = size
        self._name = name
        self._keep_connections = keep_connections
        self._idle_seconds = idle_seconds
        self._close_kept = (close_kept or close_connections) if keep_connections else None
        self._renews_sessions = renews_sessions
        self._prepare = limit_this_thread if is_limited else set_options_of_this_thread
        self._ended = False
        self._reset()
        _executors.add(self)

    def _reset(self) -> None:
        self._calls: queue.SimpleQueue[ThreadCall | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._threads: set[threading.Thread] = set()
        #: Number of calls that are not done, without those detached.
        self._open = 0
        self._detached: set[Future[Any]] = set()
        self._released: set[Future[Any]] = set()
        self._lock = threading.RLock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ThreadCall:
        """Return a future of the call, which is queued while all threads are busy.

        A BaseException of the call becomes a RuntimeError.
        Raises ``NoThread``, and never runs it, if no thread can be started now, or all are in calls that were detached.
        """
        call = ThreadCall(partial(without_base_exceptions, fn, *args, **kwargs))
        self.run(call)
        return call

    def run(self, call: ThreadCall) -> None:
        """Do what ``submit()`` does, for a call of the caller."""
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
            self._calls.put(call)

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

    def give_up(self, call: ThreadCall) -> None:
        """Cancel a call, or detach it if it has begun, and log where its code stands."""
        if call.cancel():
            return
        stuck = call.describe()
        if self.detach(call):
            logger.error("A call of %s has not returned for %s", self._name, stuck)

    @property
    def stuck_calls(self) -> int:
        """The number of calls that were detached and have not returned."""
        return len(self._detached)

    @contextlib.contextmanager
    def release_thread(self, future: Future[Any]) -> Iterator[None]:
        """Let another thread take calls until the end of the block, while the thread in this call only waits."""
        with self._lock:
            self._released.add(future)
            self.start_missing_thread()
        try:
            yield
        finally:
            with self._lock:
                self._released.discard(future)

    def start_missing_thread(self) -> None:
        """Start a thread for queued calls if it could not be started when they were submitted."""
        with self._lock, contextlib.suppress(NoThread):  # queued calls wait, and the next submit raises
            if not self._ended:
                self._ensure_thread()

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

    def _fail_queued_calls(self, error: BaseException) -> list[Callable[[], object]]:
        """Fail the calls that wait, and return what is to be called after them, without the lock."""
        afters = []
        while not self._calls.empty():
            if call := self._calls.get():
                self._open -= 1
                if call.set_running_or_notify_cancel():
                    call.set_exception(error)
                if call.after:
                    afters.append(call.after)
        return afters

    def _run(self) -> None:
        _thread_local.executor = self
        _thread_local.close_kept = self._close_kept
        try:
            self._take_calls()
        except BaseException as exc:  # no memory, between two calls
            self._replace_this_thread(exc)
        finally:
            if close_kept := _thread_local.close_kept:
                close_kept()

    def _replace_this_thread(self, error: BaseException) -> None:
        """Start another thread in place of this one, which fails. Without one, queued calls would wait for ever."""
        afters: list[Callable[[], object]] = []
        with self._lock:
            self._threads.discard(threading.current_thread())
            try:
                self._ensure_thread()
            except NoThread:
                afters = self._fail_queued_calls(error)
        for after in afters:
            after()
        logger.error("A thread failed, and was replaced: %s", self._name, exc_info=error)

    def _take_calls(self) -> None:
        opened = time.monotonic()
        while call := self._next():
            if self._close_kept and time.monotonic() - opened > MAX_CONNECTION_SECONDS:
                self._close_kept()
                opened = time.monotonic()
            try:
                if call.begin():
                    self._call(call)
            except BaseException as exc:
                with contextlib.suppress(InvalidStateError):
                    call.set_exception(exc)
                raise
            finally:
                is_surplus = self._is_surplus(call)
                if call.after:
                    call.after()
            if is_surplus:
                break
            del call

    def _next(self) -> ThreadCall | None:
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
                self.start_missing_thread()
                return False
            self._threads.discard(threading.current_thread())
            return True

    def _call(self, call: ThreadCall) -> None:
        work, call.work = cast("Callable[[], Any]", call.work), None  # the future may outlive what it calls
        error: BaseException | None = None
        try:
            self._prepare()
            if not self._keep_connections:  # what is kept was checked after the last call, some seconds ago
                check_connections()
            result = job_sessions.call(work) if self._renews_sessions else work()
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
            if self._renews_sessions:
                job_sessions.renew()
        except Exception:  # the thread has further calls to run
            logger.exception("Could not close a database connection")
        # After the connections are returned, so that a waiting thread finds one in the pool.
        if error is None:
            call.set_result(result)
        else:
            call.set_exception(error)
        del error  # a reference cycle with this frame otherwise


_executors: WeakSet[DaemonExecutor] = WeakSet()
# A child has none of these threads, and the locks may have been held at the fork.
os.register_at_fork(after_in_child=lambda: list(map(DaemonExecutor._reset, _executors)))


def count_stuck_calls() -> int:
    """Return how many calls of this process, on whatever threads, were given up and have not returned."""
    return sum(executor.stuck_calls for executor in list(_executors))


def close_when_idle(close: Callable[[], object]) -> bool:
    """Have ``close``, which raises nothing, called when this thread has been idle for a while, or ends.

    Returns False, and does nothing, on a thread that no ``DaemonExecutor`` has started.
    """
    if not hasattr(_thread_local, "executor"):
        return False
    _thread_local.close_kept = close
    return True

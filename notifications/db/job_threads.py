"""The threads for the calls that async jobs make by ``sync_to_async`` and the async ORM.

The calls of a job run in order, as asgiref demands of thread-sensitive ones, and those of different jobs side by side.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import Any

from notifications.context import current_execution
from notifications.db import job_sessions
from notifications.db.thread_calls import ThreadCall
from notifications.db.threads import DaemonExecutor, NoThread

#: Seconds after which a call does not count among the short ones, which share a few threads: others get another one.
LASTING_SECONDS = 0.5


class _Calls:
    """The calls of a job in order.

    ``thread``
        Where the last one ran, until another job takes that thread.
    """

    def __init__(self, *, is_over: bool = False) -> None:
        self.queued: deque[ThreadCall] = deque()
        self.thread: _Thread | None = None
        #: One of them runs, or waits for a thread.
        self.is_active = False
        self.is_over = is_over


class _Thread:
    def __init__(self, executor: DaemonExecutor) -> None:
        self.executor = executor
        #: The calls of the job that has it, or had it last.
        self.calls: _Calls | None = None
        #: Those of the job whose call it made last.
        self.last_calls: _Calls | None = None
        #: When a job took it (monotonic); None while it is free.
        self.taken_at: float | None = None
        #: What ``job_sessions`` knew of its sessions after the last call.
        self.is_kept = self.is_used = False


class JobThreads(Executor):
    """An executor for the context in which jobs run.

    ``size``
        Threads for calls that take less than ``LASTING_SECONDS``. A job whose call takes longer has a thread of its own
        until it returns, and one that has set something in its session until it ends.
    ``limit``
        Threads at most; calls wait then.
    """

    def __init__(self, size: int, name: str, *, limit: int) -> None:
        self._size, self._name, self._limit = size, name, max(size, limit)
        self._lock = RLock()
        self._threads: set[_Thread] = set()
        self._free: deque[_Thread] = deque()
        self._jobs: dict[Any, _Calls] = {}
        self._line: deque[_Calls] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_timer = self._is_ended = False
        self._count = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ThreadCall:
        """Return a future of the call, which belongs to the job that runs in this context.

        It fails with ``NoThread`` if no thread can be started, and there is none.
        """
        with self._lock:
            if self._is_ended:
                raise RuntimeError(f"The executor {self._name} is shut down.")
            self._loop = asyncio.get_running_loop()
            calls = self._calls_of_context()
            work = partial(
                job_sessions.call, partial(fn, *args, **kwargs), is_of_app=job_sessions.is_app_call()
            )
            call = ThreadCall(work)
            calls.queued.append(call)
            if not calls.is_active:
                calls.is_active = True
                self._run_next_call(calls)
        return call

    def end_job(self, execution: Any) -> None:
        """Take the thread of a job that has ended from it, and what it has set in its session."""
        with self._lock:
            if calls := self._jobs.pop(execution, None):
                calls.is_over = True
                # Unless another job has taken it meanwhile, or it has ended, because there were enough free ones.
                if (thread := calls.thread) and thread.calls is calls and thread.taken_at is None:
                    self._renew_or_free(thread)

    def runs_this_thread(self) -> bool:
        """Return whether the caller runs on one of these threads."""
        with self._lock:
            return any(thread.executor.runs_this_thread() for thread in self._threads)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when all calls are done. Does not wait for them."""
        with self._lock:
            self._is_ended = True
            for thread in list(self._threads):
                if thread.taken_at is None:
                    self._end_thread(thread)

    def _calls_of_context(self) -> _Calls:
        execution = current_execution()
        if execution is None or execution.is_over:
            return _Calls(is_over=True)  # of an asyncio task that the job has left behind
        calls = self._jobs.get(execution)
        if calls is None:
            calls = self._jobs[execution] = _Calls()
        return calls

    def _run_next_call(self, calls: _Calls) -> None:
        try:
            thread = self._take_thread(calls)
        except NoThread as exc:
            while calls.queued:
                call = calls.queued.popleft()
                if call.set_running_or_notify_cancel():
                    call.set_exception(exc)
            calls.is_active = False
            return
        if thread is None:
            self._line.append(calls)
            self._start_timer()
        else:
            self._run_on(thread, calls)

    def _run_on(self, thread: _Thread, calls: _Calls) -> None:
        call = calls.queued.popleft()
        call.work, call.after = (
            partial(_call, thread, calls, call.work),
            partial(self._call_ended, thread, calls),
        )
        thread.executor.run(call)

    def _take_thread(self, calls: _Calls) -> _Thread | None:
        """Return the thread of a job if it still has one, else a free one, or a new one unless there are enough."""
        thread = calls.thread
        if thread is None or thread.calls is not calls:
            thread = next((each for each in self._free if not each.is_used), None) or (
                self._free[0] if self._free else self._start_thread()
            )
        if thread:
            if thread in self._free:
                self._free.remove(thread)
            thread.taken_at, thread.calls, calls.thread = time.monotonic(), calls, thread
        return thread

    def _start_thread(self) -> _Thread | None:
        now = time.monotonic()
        short = sum(
            each.taken_at is not None and now - each.taken_at < LASTING_SECONDS for each in self._threads
        )
        if short >= self._size or len(self._threads) >= self._limit:
            return None
        executor = DaemonExecutor(
            1, f"{self._name}-{self._count}", keep_connections=True, close_kept=job_sessions.close_unchanged
        )
        try:
            executor.submit(int)  # starts it
        except NoThread:
            if self._threads:
                return None
            raise
        self._count += 1
        thread = _Thread(executor)
        self._threads.add(thread)
        return thread

    def _call_ended(self, thread: _Thread, calls: _Calls) -> None:
        """Go on with the calls of the job, or of others; on the thread that has made the call."""
        with self._lock:
            if calls.queued and (thread.is_kept or not self._line):
                self._run_on(thread, calls)
                return
            if calls.queued:
                self._line.append(calls)
            else:
                calls.is_active = False
            if calls.is_over and not calls.queued:
                self._renew_or_free(thread)
            elif thread.is_kept and not self._is_ended:
                thread.taken_at = None
                self._serve_line()  # the thread does not count any more
            else:
                self._make_free(thread)

    def _renew_or_free(self, thread: _Thread) -> None:
        """Free the thread of a job that has ended, after what it has set is taken away."""
        if thread.is_used and not self._is_ended:
            if thread in self._free:
                self._free.remove(thread)
            thread.taken_at = time.monotonic()
            thread.executor.run(ThreadCall(partial(_renew, thread), partial(self._renewed, thread)))
        else:
            self._renewed(thread)

    def _renewed(self, thread: _Thread) -> None:
        with self._lock:
            thread.calls = None
            self._make_free(thread)

    def _make_free(self, thread: _Thread) -> None:
        thread.taken_at = None
        if thread not in self._free:
            self._free.append(thread)
        self._serve_line()
        if self._free and (self._is_ended or len(self._free) > self._size):
            self._end_thread(self._free[0])

    def _end_thread(self, thread: _Thread) -> None:
        if thread in self._free:
            self._free.remove(thread)
        self._threads.discard(thread)
        thread.calls = None
        thread.executor.shutdown()

    def _serve_line(self) -> None:
        while self._line and (thread := self._take_thread(self._line[0])):
            self._run_on(thread, self._line.popleft())
        self._start_timer()

    def _start_timer(self) -> None:
        """Look again when the first of the calls that run has lasted so long that it does not count any more."""
        if not self._line or self._has_timer or self._loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._loop.call_later, LASTING_SECONDS / 2, self._on_timer)
            self._has_timer = True

    def _on_timer(self) -> None:
        with self._lock:
            self._has_timer = False
            self._serve_line()


def _call(thread: _Thread, calls: _Calls, work: Any) -> Any:
    if thread.last_calls is not calls and job_sessions.is_used():
        job_sessions.renew()
    thread.last_calls = calls
    try:
        return work()
    finally:
        thread.is_used, thread.is_kept = job_sessions.is_used(), job_sessions.has_state()


def _renew(thread: _Thread) -> None:
    job_sessions.renew()
    thread.is_used = thread.is_kept = False

"""Call the ``notify`` functions of policies and batches, before the transactions that record outcomes.

Each call runs on a thread for code of the project and has a time limit. Without a result in time, or after an error,
the default notification is recorded, and the log names the function.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.utils import translation

from notifications.db import project_code, signal_queue
from notifications.db.thread_calls import ThreadCall
from notifications.db.threads import DaemonExecutor, NoThread
from notifications.db.transactions import in_callers_transaction
from notifications.db.unavailable import log_retried
from notifications.extension.log_throttle import is_log_due
from notifications.jobs.outcome_texts import succeeded_text
from notifications.jobs.transitions.running import Claim, claim_of
from notifications.streams.building import build_notification

if TYPE_CHECKING:
    from notifications.jobs.outcomes import Outcome

logger = logging.getLogger("notifications.jobs")

#: Seconds that one call may take, and may wait for a thread before.
TIMEOUT_SECONDS, MAX_WAIT_SECONDS = 5.0, 30.0
#: Calls that run at once, and calls that exceed their time from which on no function is called until one returns.
MAX_CALLS, MAX_HANGING_CALLS = 16, 8
#: What a function may return.
CHANGEABLE_FIELDS = ("title", "body", "level", "category", "url", "data", "icon", "actor", "target", "group")
#: Those of them that are not columns of the notification.
NOT_COLUMNS = {"data", "icon", "actor", "target", "group"}


class _Threads:
    def __init__(self) -> None:
        self.calls = DaemonExecutor(MAX_CALLS, "notifications-notify")
        #: Records the outcomes of threads that may not wait for the project.
        self.records = DaemonExecutor(2, "notifications-ends")
        #: For the collections that follow: several threads change them.
        self.lock = threading.RLock()
        self.recording: dict[Claim, Future[Any]] = {}


_threads = _Threads()


def call_all(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return these outcomes with their notifications, on a thread that may wait for the project.

    Inside a caller's transaction, as in a test, functions are called on this thread, whose rows others do not see.
    """
    if all(outcome.notify is None for outcome in outcomes):
        return list(outcomes)
    if in_callers_transaction():
        return [call_here(outcome) for outcome in outcomes]
    calls = [outcome.notify and _Call(outcome) for outcome in outcomes]
    return [call.wait() if call else outcome for call, outcome in zip(calls, outcomes, strict=True)]


def call_here(outcome: Outcome) -> Outcome:
    """Return an outcome with its notification, its function called on this thread, without a time limit."""
    if outcome.notify is None:
        return outcome
    role = f"{_describe(outcome)}; the default notification is recorded:"
    return project_code.call(role, _complete, outcome) or replace(outcome, notify=None)


async def acall(outcome: Outcome) -> Outcome:
    """Return an outcome with its notification. If the task is cancelled meanwhile, it is the default one."""
    return outcome if outcome.notify is None else await _Call(outcome).await_()


def record_apart(outcomes: Sequence[Outcome], record: Callable[[Sequence[Outcome]], object]) -> list[Outcome]:
    """Return the outcomes that this thread can record now.

    On a thread that may not wait for the project, others are passed to ``record`` on another thread, when their
    functions have returned. An outcome that is being recorded so is not recorded again.
    """
    queue = signal_queue.queue_of_this_thread()
    if queue is None or all(outcome.notify is None for outcome in outcomes):
        return list(outcomes)
    ready = [outcome for outcome in outcomes if outcome.notify is None]
    waiting = [outcome for outcome in outcomes if outcome.notify]

    def run() -> None:
        queue.use_on_this_thread()
        record(call_all(waiting))

    with _threads.lock:
        open_claims = claims_recorded_apart()
        waiting = [outcome for outcome in waiting if claim_of(outcome.job) not in open_claims]
        if waiting:
            try:
                future = _threads.records.submit(run)
            except NoThread as exc:
                if is_log_due("notify functions"):
                    logger.warning("Could not call notify functions, which is tried again: %s", exc)
            else:
                future.add_done_callback(_log_error)
                _threads.recording |= dict.fromkeys((claim_of(outcome.job) for outcome in waiting), future)
    return ready


def claims_recorded_apart() -> set[Claim]:
    """Return the claims whose outcomes are being recorded on another thread: see ``record_apart``."""
    with _threads.lock:
        _threads.recording = {claim: call for claim, call in _threads.recording.items() if not call.done()}
        return set(_threads.recording)


def open_records() -> list[Future[Any]]:
    """Return the calls of ``record_apart`` that have not returned."""
    with _threads.lock:
        return [call for call in set(_threads.recording.values()) if not call.done()]


class _Call:
    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._submitted_at = time.monotonic()
        self._started_at = 0.0
        self._future: ThreadCall | None = None
        if (hanging := _threads.calls.stuck_calls) >= MAX_HANGING_CALLS:
            self._error: Exception = TimeoutError(f"{hanging} other calls take too long.")
            return
        try:
            self._future = _threads.calls.submit(contextvars.copy_context().run, self._run)
        except NoThread as exc:
            self._error = exc

    def wait(self) -> Outcome:
        while self._future and (seconds := self._seconds_left()) > 0:
            if wait([self._future], timeout=seconds).done:
                break
        return self._result()

    async def await_(self) -> Outcome:
        try:
            if self._future:
                future = asyncio.wrap_future(self._future)
                # What the call raises is read from self._future. asyncio would log that it was not read from this one.
                future.add_done_callback(_mark_error_as_read)
                while (seconds := self._seconds_left()) > 0 and not future.done():
                    await asyncio.wait([future], timeout=seconds)
        except asyncio.CancelledError as exc:  # the worker stops: what the task did must be recorded
            self._future, self._error = None, RuntimeError(f"The call was given up: {exc!r}.")
        return self._result()

    def _run(self) -> Outcome:
        self._started_at = time.monotonic()
        return call_here(self._outcome)

    def _seconds_left(self) -> float:
        if self._started_at:
            return self._started_at + TIMEOUT_SECONDS - time.monotonic()
        # It may start while the caller waits, so it is looked at again after the time of a call at most.
        left = self._submitted_at + MAX_WAIT_SECONDS - time.monotonic()
        return min(left, TIMEOUT_SECONDS)

    def _result(self) -> Outcome:
        if self._future is None:
            return _with_default(self._outcome, self._error)
        _threads.calls.give_up(self._future)
        if not self._future.done():
            return _with_default(self._outcome, TimeoutError(f"It takes longer than {TIMEOUT_SECONDS:g} s."))
        if self._future.cancelled():
            waited = time.monotonic() - self._submitted_at
            return _with_default(self._outcome, TimeoutError(f"It had no thread for {waited:.0f} s."))
        if exc := self._future.exception():
            return _with_default(self._outcome, exc)
        return self._future.result()


def _complete(outcome: Outcome) -> Outcome:
    """Call the function, and return the outcome with the notification that it makes of the default one, if any."""
    call, default = outcome.notify, outcome.notification
    assert call is not None and default is not None
    with translation.override(outcome.job.language or None):
        changes = call()
        if changes is None:
            return replace(outcome, notification=None, notify=None)
        if unknown := set(changes) - set(CHANGEABLE_FIELDS):
            raise TypeError(
                f"A notify function may return {', '.join(CHANGEABLE_FIELDS)}, not {sorted(unknown)}."
            )
        fields: Mapping[str, Any] = {
            name: getattr(default, name) for name in CHANGEABLE_FIELDS if name not in NOT_COLUMNS
        }
        if "title" in changes and default.body == succeeded_text(outcome.job.language):
            fields = {**fields, "body": ""}  # the title says what came of it
        notification = build_notification(
            default.user_id,
            **{**fields, **changes},
            key=default.key,
            job=default.job,
            task=outcome.job.task_path,
        )
    return replace(outcome, notification=notification, notify=None)


def _mark_error_as_read(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _log_error(call: Future[Any]) -> None:
    if not call.cancelled() and (exc := call.exception()):
        log_retried(logger, "Could not record the outcomes of jobs, which is tried again", exc)


def _describe(outcome: Outcome) -> str:
    return f"notify function {project_code.name_of(outcome.notify)} of job {outcome.job.id}"


def _with_default(outcome: Outcome, exc: BaseException) -> Outcome:
    logger.error(
        "Host code failed: %s; the default notification is recorded", _describe(outcome), exc_info=exc
    )
    return replace(outcome, notify=None)


def _after_fork() -> None:
    global _threads
    _threads = _Threads()  # a child has none of its parent's threads


os.register_at_fork(after_in_child=_after_fork)

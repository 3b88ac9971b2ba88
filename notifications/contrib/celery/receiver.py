"""What the recording process of a Celery worker makes of the messages of child processes."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from notifications import times
from notifications.contrib.celery.execution import store_progress
from notifications.contrib.celery.messages import (
    FIRST_CHECK_SECONDS,
    ReceivedMessage,
    build_batch,
    build_job,
    job_id,
    observation_of,
)
from notifications.contrib.celery.record_queue import Work
from notifications.contrib.celery.recorder import (
    LOCKED_PAUSE_SECONDS,
    MAX_LOCKED_SECONDS,
    log_unrecorded,
    recorder,
)
from notifications.db.threads import DaemonExecutor, NoThread
from notifications.engines.observed import changes, recording
from notifications.engines.observed.starts import ObservedAttempt
from notifications.jobs import outcomes
from notifications.jobs.declaring.observations import Observation
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import notify_functions
from notifications.jobs.transitions.running import PROGRESS_COLUMNS
from notifications.models import Attempt, Job

logger = logging.getLogger("notifications.jobs")

#: What a child process sends of a task with each message: its own pid, when the attempt started (monotonic), the number
#: of the attempt, the row of its job if that was made of the task's arguments, and the parts of a ``ReceivedMessage``.
Start = tuple[Any, ...]
#: The fields of an outcome, as ``ChildExecution`` sends them.
Fields = tuple[Any, ...]
#: Calls of notify functions that may be open, of those that came at once each, before others are not made.
MAX_OPEN_CALLS = 10
#: Kinds of messages after which the attempt goes on.
_CONTINUED = ("begin", "store_progress")


class Receiver:
    """The attempts that run in child processes. Their messages name its methods."""

    def __init__(self, app: Any, worker: UUID) -> None:
        self._app = app
        self._worker = worker
        #: Running attempts, by their processes and the times of their starts.
        self._attempts: dict[tuple[int, float], ObservedAttempt] = {}
        #: When the last attempt of each process started that has ended.
        self._last_ended: dict[int, float] = {}
        #: What the messages say that is not taken yet, in order, and each attempt once.
        self._received: dict[Work, None] = {}
        #: Ends whose notify functions are to be called, and calls that are open.
        self._uncalled: list[tuple[ObservedAttempt, Outcome]] = []
        self._notify_threads = DaemonExecutor(2, "notifications-celery-notify")
        self._open_calls: set[Future[None]] = set()

    def __len__(self) -> int:
        """Return how many starts and ends are not taken yet."""
        return len(self._received)

    def receive(self, kind: str, start: Start, progress: Any, *values: Any) -> None:
        """Take a message of a process: the name of a method, the start of its task, and what the method takes.

        ``progress`` has the columns of what the task has reported until then; None if it has reported nothing.
        """
        pid, started_at = key = start[:2]
        if started_at <= self._last_ended.get(pid, 0.0):
            return  # sent twice, or by another thread of the task
        attempt = self._attempts.get(key)
        if attempt is None:
            # Also if the process that knew it was killed.
            attempt = self._attempts[key] = self._make_attempt(start)
            self._received[attempt] = None
        if kind not in _CONTINUED:
            del self._attempts[key]
            self._last_ended[pid] = started_at
        if progress:
            attempt.job.__dict__.update(zip(PROGRESS_COLUMNS, progress, strict=True))
        getattr(self, kind)(attempt, *values)

    def take(self) -> list[Work]:
        """Return what is to be recorded: the start and the end of a short task are one."""
        if self._uncalled:
            uncalled, self._uncalled = self._uncalled, []
            self._call_notify_functions(uncalled)
        received, self._received = self._received, {}
        return list(received)

    def forget_ended_processes(self) -> None:
        """Forget the attempts of processes that have ended: the main process finds out what became of them."""
        for pid in {pid for pid, _ in list(self._attempts)} | set(self._last_ended):
            if exists(pid):
                continue
            self._last_ended.pop(pid, None)
            for key in [key for key in list(self._attempts) if key[0] == pid]:
                if attempt := self._attempts.pop(key, None):
                    recorder().forget(attempt)

    def wait(self, seconds: float) -> None:
        """Wait for notify functions, at most this long."""
        futures.wait(list(self._open_calls), timeout=seconds)

    def begin(self, attempt: ObservedAttempt) -> None:
        """Record the start of an attempt, which ``receive()`` has done."""

    def finish(self, attempt: ObservedAttempt, fields: Fields) -> None:
        """Record the end of an attempt."""
        recorder().forget(attempt)
        attempt.remake = partial(_make_outcome, attempt, fields)
        if callable(attempt.policy.notify):
            outcome = attempt.remake(attempt.job)
            if outcome.notify:
                self._uncalled.append((attempt, outcome))
                return
        attempt.outcome = attempt.remake  # made of the row
        self._received[attempt] = None

    def schedule_retry(self, attempt: ObservedAttempt, fields: Fields, delay: float) -> None:
        """Record a failed attempt that another one follows, in ``delay`` seconds."""

        def change() -> bool:
            outcome = Outcome(job=attempt.job, **_columns(fields), retry_delay=delay)
            return changes.schedule_retry(outcome, FIRST_CHECK_SECONDS)

        self._end(attempt, change)

    def requeue(self, attempt: ObservedAttempt, check_at: datetime) -> None:
        """Record that a message went back to the broker."""

        def change() -> bool:
            changes.requeue(attempt.job, check_at)
            return True

        self._end(attempt, change)

    def store_progress(self, attempt: ObservedAttempt) -> None:
        """Store what a task has reported."""
        recorder().report(attempt, lambda: store_progress(attempt))

    def _end(self, attempt: ObservedAttempt, change: Callable[[], bool]) -> None:
        """Record an end in another way than as an outcome: ``change`` does, and returns False if the row is locked.

        Then it is tried again, after what has come meanwhile.
        """
        recorder().forget(attempt)
        give_up_at: float | None = None

        def end() -> None:
            nonlocal give_up_at
            is_locked = bool(recording.record_or_refuse([attempt])) if not attempt.is_begun else False
            if not is_locked and attempt.is_begun and not attempt.is_void:
                is_locked = not change()
            if not is_locked:
                return
            now = time.monotonic()
            give_up_at = give_up_at or now + MAX_LOCKED_SECONDS
            if now < give_up_at:
                time.sleep(LOCKED_PAUSE_SECONDS)
                recorder().call(end, wait=0.0)
            else:
                log_unrecorded(f"job {attempt.id}: its row is locked")

        self._received[end] = None

    def _call_notify_functions(self, ends: list[tuple[ObservedAttempt, Outcome]]) -> None:
        """Have notify functions called on another thread: other records do not wait for them."""
        if len(self._open_calls) < MAX_OPEN_CALLS:
            try:
                future = self._notify_threads.submit(self._record_called, ends)
            except NoThread:
                pass
            else:
                self._open_calls.add(future)
                future.add_done_callback(self._open_calls.discard)
                return
        logger.warning("Notify functions are too slow, not called for %d jobs", len(ends))
        for attempt, end in ends:
            attempt.outcome = replace(end, notify=None)
            self._received[attempt] = None

    def _record_called(self, ends: list[tuple[ObservedAttempt, Outcome]]) -> None:
        called = notify_functions.call_all([end for _, end in ends])
        for (attempt, _), end in zip(ends, called, strict=True):
            attempt.outcome = replace(end, notify=None)
            recorder().record(attempt)

    def _make_attempt(self, start: Start) -> ObservedAttempt:
        _, started_at, number, row, *parts = start
        message = ReceivedMessage(*parts)
        observation = observation_of(message.name) or Observation()
        received_at = times.now() - timedelta(seconds=time.monotonic() - started_at)
        return ObservedAttempt(
            id=job_id(message.id),
            worker=self._worker,
            number=number,
            policy=observation.policy,
            make_job=lambda: row or build_job(self._app, message.read(), observation, received_at),
            make_batch=lambda: build_batch(message.read(), observation),
            started_at=started_at,
        )


def _make_outcome(attempt: ObservedAttempt, fields: Fields, job: Job) -> Outcome:
    """Return the outcome for a job, with the notification that its row demands."""
    columns = _columns(fields)
    result, error = columns.get("result"), columns.get("error")
    announcement = outcomes.announcement(
        job,
        attempt.policy,
        columns["state"],
        json.loads(result) if result and callable(attempt.policy.notify) else None,
        json.loads(error) if error else None,
    )
    return Outcome(job=job, **columns, **announcement)


def _columns(fields: Fields) -> dict[str, Any]:
    names = ("state", "result", "error", "attempt", "exception_class_path", "traceback", "location")
    columns: dict[str, Any] = dict(zip(names, fields, strict=False))
    columns["state"] = Job.State(columns["state"])
    if columns.get("attempt"):
        columns["attempt"] = Attempt.Outcome(columns["attempt"])
    return columns


def exists(pid: int) -> bool:
    """Return whether a process has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True

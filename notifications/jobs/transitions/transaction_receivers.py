"""Call the receivers of ``notification_recording`` inside the transaction that records outcomes.

No receiver may keep an outcome from being stored. If it loses the transaction, or holds it for too long,
``TransactionLost`` is raised: then the outcomes of the group are recorded one by one, and its own job, after
``MAX_LOSSES``, without receivers.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.threads import current_call
from notifications.db.transactions import connection
from notifications.jobs.recording_receivers import (
    MAX_LOSSES,
    RECORDING,
    RecordingReceivers,
    TransactionLost,
)
from notifications.jobs.transitions import signal_queue
from notifications.models import Job
from notifications.signals import notification_recording

if TYPE_CHECKING:
    from notifications.jobs.transitions.outcomes import Outcome

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Seconds that one receiver may take for one job.
RECEIVER_TIMEOUT_SECONDS = 5.0
#: Seconds that all receivers may take for a group before its outcomes are recorded one by one.
GROUP_TIMEOUT_SECONDS = 1.0
#: Hanging calls, each on a thread of its own, from which on no receiver is called until one returns. One less than the
#: threads that an executor replaces.
MAX_HANGING_CALLS = 3
MAX_REMEMBERED_JOBS = 1_000

#: How often receivers lost the transaction of a job, by its id and fence.
_losses: dict[tuple[UUID, int], int] = {}
#: The names of the receivers in calls that took too long and have not returned yet.
_hanging: list[str] = []


def call_receivers(outcomes: Sequence[Outcome]) -> None:
    """Call the receivers for the notifications of these outcomes. Raises ``TransactionLost``."""
    notified = [outcome for outcome in outcomes if outcome.notification]
    if not notified or not notification_recording.receivers:
        return
    db = connection()
    # A caller's transaction: in a TestCase, or in a project with autocommit off.
    if len(db.atomic_blocks) > 1 or not db.commit_on_exit:
        try:
            for outcome in notified:
                _call_for(outcome, db, None)
        except TransactionLost as exc:
            exc.is_callers = True
            raise
        return
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{RECEIVER_TIMEOUT_SECONDS:g}s'")
    group_deadline = time.monotonic() + GROUP_TIMEOUT_SECONDS
    with _ReceiverTimeout(db) as timeout:
        for number, outcome in enumerate(notified):
            if number and time.monotonic() > group_deadline:
                raise TransactionLost(
                    f"Receivers took over {GROUP_TIMEOUT_SECONDS:g} s for {number} of {len(notified)} jobs."
                )
            _call_for(outcome, db, timeout)


def retry_lost_transaction(record: Callable[[], T]) -> T:
    """Call ``record``, which records the outcome of one job, until no receiver loses its transaction."""
    while True:
        try:
            return record()
        except TransactionLost as exc:
            reset_lost_connection(exc)


def reset_lost_connection(exc: TransactionLost) -> None:
    """Close the connection whose transaction was lost; the next query opens another one.

    Raises ``exc`` where the transaction cannot be begun again on this thread.
    """
    db = connection()
    if exc.is_abandoned or exc.is_callers:
        raise exc
    db.close()


def _call_for(outcome: Outcome, db: BaseDatabaseWrapper, timeout: _ReceiverTimeout | None) -> None:
    job = outcome.job
    if _losses.get((job.id, job.fence), 0) >= MAX_LOSSES:
        logger.error("Recording without receivers of notification_recording: job %s", job.id)
        return
    _JobReceivers(outcome, timeout).call(db)


class _JobReceivers(RecordingReceivers):
    """The receivers for the notification of one job, each of which may take ``RECEIVER_TIMEOUT_SECONDS``."""

    def __init__(self, outcome: Outcome, timeout: _ReceiverTimeout | None) -> None:
        self._finished_job = job = outcome.job
        super().__init__(outcome.notification, f"job {job.id}", Job, job)
        self._timeout = timeout

    def may_call(self, name: str) -> bool:
        if len(_hanging) < MAX_HANGING_CALLS:
            return True
        logger.error("Host code is not called while %s hang: %s, %s", _hanging, name, self.subject)
        return False

    def limit_time(self, name: str) -> AbstractContextManager[None]:
        return self._timeout.watching(name, self._finished_job) if self._timeout else nullcontext()

    def has_timed_out(self) -> bool:
        return self._timeout is not None and self._timeout.has_passed

    def lost(self, name: str) -> TransactionLost:
        """Return the error for a lost transaction, and count the loss for the job."""
        job = self._finished_job
        if self._timeout and self._timeout.has_passed:  # which is logged and counted already
            error = TransactionLost(f"{name} lost the transaction of {self.subject}.")
            error.is_abandoned = self._timeout.is_abandoned
            return error
        _remember(job, _losses.get((job.id, job.fence), 0) + 1)
        return super().lost(name)

    def guard_hook(self, hook: Callable[[], object]) -> Callable[[], None]:
        call = super().guard_hook(hook)
        return lambda: signal_queue.send_later(call)


def _remember(job: Job, losses: int) -> None:
    if len(_losses) >= MAX_REMEMBERED_JOBS:
        _losses.clear()
    _losses[job.id, job.fence] = losses


class _ReceiverTimeout:
    """Rolls back the transaction of this thread from another thread when a receiver holds it for too long.

    The receiver itself cannot be stopped. If its thread is one of an executor, another thread takes its place; the
    caller on any other thread waits until the receiver returns.
    """

    def __init__(self, db: BaseDatabaseWrapper) -> None:
        self._db = db
        self._owner = threading.get_ident()
        self._executor_call = current_call()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._receiver: tuple[str, Job] | None = None
        self._until = float("inf")
        self.has_passed = False
        self.is_abandoned = False

    def __enter__(self) -> _ReceiverTimeout:
        self._until = time.monotonic() + RECEIVER_TIMEOUT_SECONDS
        # Where no thread can be started, only PostgreSQL's statement_timeout holds.
        with suppress(RuntimeError):
            threading.Thread(target=self._watch, name="notifications-receivers", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    @contextmanager
    def watching(self, name: str, job: Job) -> Iterator[None]:
        """Limit the time of one receiver, which is called inside the block."""
        with self._lock:
            self._receiver, self._until = (name, job), time.monotonic() + RECEIVER_TIMEOUT_SECONDS
        try:
            yield
        finally:
            with self._lock:
                self._receiver = None
                if self.has_passed:
                    _hanging.remove(name)

    def _watch(self) -> None:
        while not self._ended.wait(max(self._until - time.monotonic(), 0.01)):
            with self._lock:
                if self._receiver and time.monotonic() >= self._until:
                    return self._pass(*self._receiver)
                if not self._receiver:
                    self._until = time.monotonic() + RECEIVER_TIMEOUT_SECONDS

    def _pass(self, name: str, job: Job) -> None:
        self.has_passed = True
        _remember(job, MAX_LOSSES)
        _hanging.append(name)
        frame = sys._current_frames().get(self._owner)
        logger.error(
            "Host code takes longer than %g s: %s %s, job %s. Its stack:\n%s",
            RECEIVER_TIMEOUT_SECONDS,
            RECORDING,
            name,
            job.id,
            "".join(traceback.format_stack(frame, limit=10)) if frame else "",
        )
        with suppress(Exception):  # the connection may be broken already
            _end_transaction(self._db)
        if self._executor_call:
            executor, future = self._executor_call
            self.is_abandoned = True
            executor.abandon(future, TransactionLost(f"{name} takes too long for job {job.id}."))


def _end_transaction(db: BaseDatabaseWrapper) -> None:
    """Roll back the transaction of another thread's connection now, whatever that thread does."""
    raw: Any = db.connection
    db.needs_rollback = True  # Django refuses further queries of the receiver
    if db.vendor == "postgresql":
        # The server rolls back when it finds the connection closed, at the latest at the end of the current statement.
        with socket.socket(fileno=os.dup(raw.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    elif db.vendor == "sqlite" and sqlite3.threadsafety == 3:
        raw.interrupt()
        raw.rollback()

"""Receivers of ``notification_recording``: the host's code inside the transaction that records outcomes.

One that raises undoes what receivers wrote for its job. One that ends or breaks the transaction, or holds it for too
long, raises ``TransactionLost``: then the outcomes of the group are recorded one by one, and its own job, at last,
without receivers. So no receiver keeps any outcome from being stored.
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
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db import transactions
from notifications.db.threads import current_call
from notifications.db.transactions import connection
from notifications.jobs import host_code
from notifications.jobs.transitions import signal_queue
from notifications.models import Job
from notifications.signals import notification_recording

if TYPE_CHECKING:
    from notifications.jobs.transitions.outcomes import Outcome

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Seconds that the receivers may take for one job, and together for a group, before it is recorded one by one.
RECEIVER_TIMEOUT_SECONDS, GROUP_TIMEOUT_SECONDS = 5.0, 1.0
#: Times that receivers may lose the transaction of one job. The first time the server may have been restarted.
MAX_LOSSES = 2
#: Calls that may hang, each in a thread of its own, before no receiver is called until one returns. One less than the
#: threads that an executor replaces.
MAX_HANGING_CALLS = 3
#: Jobs whose losses are remembered.
MAX_REMEMBERED_JOBS = 1_000

WHAT = "receiver of notification_recording"

#: How often receivers lost the transaction of a job, by its id and fence.
_losses: dict[tuple[UUID, int], int] = {}
#: The receivers of calls that took too long and have not returned yet.
_hanging: list[str] = []


class TransactionLost(Exception):
    """A receiver ended, broke or held up the transaction that it was called in. What it has written is rolled back.

    With ``is_abandoned`` nobody waits for the call that raised this: another thread does its work. With ``is_callers``
    the transaction also had writes of the caller's, so it cannot be begun anew.
    """

    is_abandoned = False
    is_callers = False


def call_receivers(outcomes: Sequence[Outcome]) -> None:
    """Call the receivers for the notifications of these outcomes. Raises ``TransactionLost``."""
    told = [outcome for outcome in outcomes if outcome.notification]
    if not told or not notification_recording.receivers:
        return
    db = connection()
    # A caller's transaction: in a test case, say, or in a project that commits by itself.
    if len(db.atomic_blocks) > 1 or not db.commit_on_exit:
        try:
            for outcome in told:
                _call_for(outcome, db, None)
        except TransactionLost as exc:
            exc.is_callers = True
            raise
        return
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{RECEIVER_TIMEOUT_SECONDS:g}s'")
    give_up = time.monotonic() + GROUP_TIMEOUT_SECONDS
    with _Deadline(db) as deadline:
        for number, outcome in enumerate(told):
            if number and time.monotonic() > give_up:
                raise TransactionLost(f"Receivers took long for {number} of {len(told)} jobs.")
            _call_for(outcome, db, deadline)


def until_recorded(record: Callable[[], T]) -> T:
    """Call ``record``, which records the outcome of one job, again while receivers lose its transaction."""
    while True:
        try:
            return record()
        except TransactionLost as exc:
            begin_anew(exc)


def begin_anew(exc: TransactionLost) -> None:
    """Have a connection on which what ``exc`` has undone can be recorded; raise it where nobody waits for that."""
    db = connection()
    if exc.is_abandoned or exc.is_callers:
        raise exc
    db.close()


def _call_for(outcome: Outcome, db: BaseDatabaseWrapper, deadline: _Deadline | None) -> None:
    """Call the receivers for one job, inside a savepoint, until one raises."""
    job = outcome.job
    if _losses.get((job.id, job.fence), 0) >= MAX_LOSSES:
        logger.error("Recorded without receivers of notification_recording: job %s.", job.id)
        return
    hooks = len(db.run_on_commit)
    name = ""
    try:
        with transaction.atomic(using=db.alias):
            depth = len(db.atomic_blocks)
            for receiver in host_code.receivers_of(notification_recording, Job):
                name = host_code.name_of(receiver)
                if len(_hanging) >= MAX_HANGING_CALLS:
                    logger.error("Host code is not called while %s hang: %s, job %s", _hanging, name, job.id)
                elif not _call(receiver, name, outcome, deadline, db, depth):
                    transaction.set_rollback(True, using=db.alias)
                    break
    except BaseException as exc:
        # A statement that failed, and whose error was caught, may only have broken the savepoint.
        if not isinstance(exc, DatabaseError) or db.needs_rollback or db.closed_in_transaction:
            raise _lost(job, name, deadline) from exc
        logger.error("Host code failed: %s %s, job %s", WHAT, name, job.id, exc_info=exc)
    if db.needs_rollback or db.closed_in_transaction:
        raise _lost(job, name, deadline)
    for position, (sids, hook, _) in enumerate(db.run_on_commit[hooks:], hooks):
        if getattr(hook, "__module__", "") != transactions.__name__:  # those are the app's own
            db.run_on_commit[position] = (sids, _guarded(hook), True)


def _call(
    receiver: Callable[..., Any],
    name: str,
    outcome: Outcome,
    deadline: _Deadline | None,
    db: BaseDatabaseWrapper,
    depth: int,
) -> bool:
    """Call one receiver; return whether what it has written can be kept."""
    job = outcome.job
    try:
        with (
            deadline.of(name, job) if deadline else nullcontext(),
            host_code.restored_connections(WHAT, name, db),
        ):
            receiver(signal=notification_recording, sender=Job, notification=outcome.notification, job=job)
    except BaseException:
        logger.exception("Host code failed: %s %s, job %s", WHAT, name, job.id)
        return False
    if not host_code.roll_back_to(db, depth):
        logger.error("Host code left a transaction open: %s %s. It is rolled back.", WHAT, name)
        return False
    return not (deadline and deadline.has_passed)


def _lost(job: Job, name: str, deadline: _Deadline | None) -> TransactionLost:
    """Return the error for a transaction that is lost, and remember whose receiver lost it."""
    error = TransactionLost(f"{name} lost the transaction of job {job.id}.")
    if deadline and deadline.has_passed:
        error.is_abandoned = deadline.abandoned
        return error
    _remember(job, _losses.get((job.id, job.fence), 0) + 1)
    logger.error("Host code lost the transaction: %s %s, job %s", WHAT, name, job.id)
    return error


def _remember(job: Job, losses: int) -> None:
    if len(_losses) >= MAX_REMEMBERED_JOBS:
        _losses.clear()
    _losses[job.id, job.fence] = losses


def _guarded(hook: Callable[[], object]) -> Callable[[], None]:
    """Return a commit hook that is called like a receiver after the commit."""

    def call() -> None:
        signal_queue.later(lambda: host_code.call("on_commit hook", hook))

    return call


class _Deadline:
    """Ends the transaction of this thread from another one when a receiver holds it for too long.

    A thread cannot be ended: if it is one of an executor's another one takes its place, or else its caller waits.
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
        self.abandoned = False

    def __enter__(self) -> _Deadline:
        self._until = time.monotonic() + RECEIVER_TIMEOUT_SECONDS
        # Without a thread PostgreSQL's own timeouts hold.
        with suppress(RuntimeError):
            threading.Thread(target=self._watch, name="notifications-deadline", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    @contextmanager
    def of(self, name: str, job: Job) -> Iterator[None]:
        """Count the time from now, until the end of the block, for one receiver."""
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
            "Host code takes longer than %g s: %s %s, job %s. It is here:\n%s",
            RECEIVER_TIMEOUT_SECONDS,
            WHAT,
            name,
            job.id,
            "".join(traceback.format_stack(frame, limit=10)) if frame else "",
        )
        with suppress(Exception):  # it is broken already
            _end_transaction(self._db)
        if self._executor_call:
            executor, future = self._executor_call
            self.abandoned = True
            executor.abandon(future, TransactionLost(f"{name} takes too long for job {job.id}."))


def _end_transaction(db: BaseDatabaseWrapper) -> None:
    """Have the transaction of another thread's connection rolled back now, whatever that thread does."""
    raw: Any = db.connection
    db.needs_rollback = True  # nothing more is written through Django
    if db.vendor == "postgresql":
        # The server rolls back when it finds the connection closed, or ends the statement that it is in.
        with socket.socket(fileno=os.dup(raw.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    elif db.vendor == "sqlite" and sqlite3.threadsafety == 3:
        raw.interrupt()
        raw.rollback()

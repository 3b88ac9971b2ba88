"""Call code of the host project: receivers of signals, commit hooks, functions of a policy.

Such code may raise anything, SystemExit included, and may leave a transaction open or the connection closed. Other
jobs must not be affected, and the log names the function.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeVar

from asgiref.sync import AsyncToSync, async_to_sync
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.dispatch import Signal

from notifications.db import job_sessions
from notifications.db.dialects import find_dialect
from notifications.db.thread_connections import in_transaction
from notifications.db.threads import NoThread
from notifications.db.unavailable import is_unavailable

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: The call that runs on each thread, by the thread's ident: name of the function, and start (monotonic).
running_calls: dict[int, tuple[str, float]] = {}
#: The role of the host code that runs in this context, "receiver of notification_recorded" for example; "" outside.
current: ContextVar[str] = ContextVar("notifications_host_code", default="")


def name_of(function: Any) -> str:
    """Return the module and qualified name of a function, or the type of an object without them."""
    if isinstance(function, AsyncToSync):
        function = function.awaitable
    function = getattr(function, "func", function)  # of a functools.partial
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except AttributeError:
        kind = type(function)
        return f"an instance of {kind.__module__}.{kind.__qualname__}"


def send(signal: Signal, signal_name: str, sender: Any, **kwargs: Any) -> None:
    """Call the receivers of a signal in order. Errors are logged, not raised."""
    # Called one by one, because Signal.send_robust() lets a BaseException through and does not restore connections.
    sync, asynchronous = signal._live_receivers(sender)  # type: ignore[attr-defined]
    for receiver in (*sync, *map(async_to_sync, asynchronous)):
        call(f"receiver of {signal_name}", receiver, signal=signal, sender=sender, **kwargs)


def call(role: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
    """Call a function of the host project and return its result, or None if it raised. Errors are logged.

    A transaction that it leaves open is rolled back. ``role`` says in the log what the function is.
    """
    name = name_of(function)
    job_sessions.note_project_code()
    thread = threading.get_ident()
    # Calls may be nested: a receiver may cancel a job, whose signals are then sent inside the receiver.
    outer = running_calls.get(thread)
    running_calls[thread] = (name, time.monotonic())
    try:
        with _restored_connections(role, name):
            return function(*args, **kwargs)
    except BaseException:
        logger.exception("Host code failed: %s %s", role, name)
        return None
    finally:
        if outer:
            running_calls[thread] = outer
        else:
            del running_calls[thread]


class catching:
    """Keep what code of the project raises in the block in ``error``: it is that code's fault.

    That the database is away, or that the process has no thread, is raised.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        job_sessions.note_project_code()
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> bool:
        is_outage = exc is not None and isinstance(exc, Error | NoThread) and is_unavailable(exc)
        if is_outage or not isinstance(exc, Exception):
            return False
        self.error = exc
        return True


@contextmanager
def _restored_connections(role: str, name: str) -> Iterator[None]:
    """Restore the state of this thread's database connections after the block.

    ``role`` and ``name`` say in the log which function left a transaction open.
    """
    before = {db.alias: _state_of(db) for db in connections.all(initialized_only=True)}
    token = current.set(role)
    try:
        yield
    finally:
        current.reset(token)
        for db in connections.all(initialized_only=True):
            if not _restore(db, *before.get(db.alias, (0, db.settings_dict["AUTOCOMMIT"], False))):
                logger.error("Host code left a transaction open, which is rolled back: %s %s", role, name)


def _roll_back_to(db: BaseDatabaseWrapper, depth: int) -> bool:
    """Roll back the atomic blocks inside the outer ``depth`` ones; return whether there were none."""
    is_clean = len(db.atomic_blocks) <= depth
    error = TransactionManagementError("This left a transaction open. Use `with transaction.atomic():`.")
    while len(db.atomic_blocks) > depth:
        db.atomic_blocks[-1].__exit__(type(error), error, None)
    return is_clean


def _state_of(db: BaseDatabaseWrapper) -> tuple[int, bool, bool]:
    """Return the number of atomic blocks, whether autocommit is on, and whether a transaction is open."""
    # Before the first connection db.autocommit is False.
    return len(db.atomic_blocks), db.autocommit or not db.connection, in_transaction(db)


def _is_open(db: BaseDatabaseWrapper) -> bool:
    raw = db.connection
    if raw is None:
        return True
    try:
        return (found := find_dialect(db)) is None or found.is_open(raw)
    except db.Database.Error:
        return False


def _restore(db: BaseDatabaseWrapper, depth: int, had_autocommit: bool, was_in_transaction: bool) -> bool:
    """Restore what ``_state_of`` returned before a call; return whether the call left no transaction open."""
    try:
        is_clean = _roll_back_to(db, depth)
        if depth:
            return is_clean
        has_changed = db.autocommit != had_autocommit or (in_transaction(db) and not was_in_transaction)
        if db.connection and has_changed:
            db.close()
            return False
        if not _is_open(db):
            db.close()
        return is_clean
    except BaseException:
        logger.warning("Could not restore a connection after host code: %s", db.alias, exc_info=True)
        # The next query opens a new connection.
        db.atomic_blocks.clear()
        db.savepoint_ids.clear()
        db.in_atomic_block = False
        db.close()
        return False

"""Calls of the host project's code: receivers of signals, commit hooks, functions of a policy.

Such code may raise anything, also what ends a thread or an event loop, and may leave the database connection as nobody
else left it. None of that may reach the jobs of others, and the log must name who did it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, async_to_sync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.dispatch import Signal

from notifications.db.threads import in_transaction
from notifications.db.transactions import connects_with_autocommit

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: What runs now on each thread, by its ident: the name of the receiver, and since when (monotonic).
running: dict[int, tuple[str, float]] = {}
#: The kind of host code that runs in this context, "receiver of notification_recording" for example; "" outside.
current: ContextVar[str] = ContextVar("notifications_host_code", default="")


def receivers_of(signal: Signal, sender: Any) -> list[Callable[..., Any]]:
    """Return the receivers of a signal, each to be called as a sync function."""
    # Signal.send() says neither who raised nor what it left behind, and send_robust() lets a BaseException through.
    sync, asynchronous = signal._live_receivers(sender)  # type: ignore[attr-defined]
    return [*sync, *map(async_to_sync, asynchronous)]


def name_of(function: Any) -> str:
    """Return the module and the qualified name of a function, or what there is instead."""
    if isinstance(function, AsyncToSync):
        function = function.awaitable
    function = getattr(function, "func", function)  # of a functools.partial
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except BaseException:
        kind = type(function)
        return f"an instance of {kind.__module__}.{kind.__qualname__}"


def send(signal: Signal, what: str, sender: Any, **named: Any) -> None:
    """Call the receivers of a signal, named ``what`` in the log, one after the other, whatever each of them does."""
    for receiver in receivers_of(signal, sender):
        call(f"receiver of {what}", receiver, signal=signal, sender=sender, **named)


def call(what: str, function: Callable[..., T], *args: Any, **named: Any) -> T | None:
    """Call a function of the host's and return its result; None where it raised, which is logged.

    Database connections are as before: what it left open is rolled back.
    """
    name = name_of(function)
    thread = threading.get_ident()
    # A receiver may cancel a job, whose signals are then sent inside its call.
    outer = running.get(thread)
    running[thread] = (name, time.monotonic())
    try:
        with restored_connections(what, name):
            return function(*args, **named)
    except BaseException:
        logger.exception("Host code failed: %s %s", what, name)
        return None
    finally:
        if outer:
            running[thread] = outer
        else:
            del running[thread]


@contextmanager
def restored_connections(what: str, name: str, besides: BaseDatabaseWrapper | None = None) -> Iterator[None]:
    """Have the connections of this thread, ``besides`` one, after the block as they were before it."""
    before = {db.alias: _state_of(db) for db in connections.all(initialized_only=True)}
    token = current.set(what)
    try:
        yield
    finally:
        current.reset(token)
        for db in connections.all(initialized_only=True):
            new = (0, connects_with_autocommit(db), False)
            if db is not besides and not _restore(db, *before.get(db.alias, new)):
                logger.error("Host code left a transaction open: %s %s. It is rolled back.", what, name)


def roll_back_to(db: BaseDatabaseWrapper, depth: int) -> bool:
    """Leave the atomic blocks inside the first ``depth`` ones as an exception would; return whether there were none."""
    clean = len(db.atomic_blocks) <= depth
    error = TransactionManagementError("This left a transaction open. Use `with transaction.atomic():`.")
    while len(db.atomic_blocks) > depth:
        db.atomic_blocks[-1].__exit__(type(error), error, None)
    return clean


def _state_of(db: BaseDatabaseWrapper) -> tuple[int, bool, bool]:
    # Before its first connection Django has autocommit as off, whatever the settings say.
    autocommit = db.autocommit if db.connection else connects_with_autocommit(db)
    return len(db.atomic_blocks), autocommit, in_transaction(db)


def _is_open(db: BaseDatabaseWrapper) -> bool:
    raw = db.connection
    if raw is None:
        return True
    if db.vendor == "postgresql":
        return not raw.closed
    try:
        return db.vendor != "sqlite" or raw.in_transaction is not None
    except db.Database.Error:
        return False


def _restore(db: BaseDatabaseWrapper, depth: int, autocommit: bool, in_one: bool) -> bool:
    """Have a connection as it was: see ``_state_of``. Return whether it was left so."""
    try:
        clean = roll_back_to(db, depth)
        if (
            not depth
            and db.connection
            and (db.autocommit != autocommit or (in_transaction(db) and not in_one))
        ):
            clean = False
            db.close()
        elif not depth and not _is_open(db):
            db.close()
        return clean
    except BaseException:  # a broken connection, which is replaced at the next use
        logger.warning("Could not restore a connection after host code: %s", db.alias, exc_info=True)
        db.atomic_blocks.clear()
        db.savepoint_ids.clear()
        db.in_atomic_block = False
        db.close()
        return False

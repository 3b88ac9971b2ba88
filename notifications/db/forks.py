"""Keep forks out of SQLite.

A child that is forked while another thread is inside SQLite has copies of its mutexes that are never released: the
child's first call of SQLite then waits for ever. And SQLite keeps, in the memory of each process, which locks its
connections hold on a file. In a child that is forked during a transaction they are never released: each of its own
writes then fails with "database is locked". (https://www.sqlite.org/howtocorrupt.html, section 2.6, warns of
connections across a fork.)
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

#: Seconds that a fork waits at most for the calls and transactions of other threads.
MAX_WAIT_SECONDS = 5.0
#: What calls SQLite, of Django's connection and of its cursor.
_CONNECTION_METHODS = ("get_new_connection", "_close", "_commit", "_rollback", "_set_autocommit")
_CURSOR_METHODS = ("execute", "executemany", "fetchone", "fetchmany", "fetchall", "close")


class _Gate:
    """Any number of threads are inside, or a fork is under way. A thread may enter several times."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._depths: dict[int, int] = {}
        #: Threads that fork.
        self._closers = 0

    def __enter__(self) -> None:
        thread = threading.get_ident()
        with self._condition:
            # Not one that is inside already: the fork waits for it.
            while self._closers and thread not in self._depths:
                self._condition.wait()
            self._depths[thread] = self._depths.get(thread, 0) + 1

    def __exit__(self, *args: object) -> None:
        thread = threading.get_ident()
        with self._condition:
            self._depths[thread] -= 1
            if not self._depths[thread]:
                del self._depths[thread]
                self._condition.notify_all()

    def close(self) -> None:
        """Let no thread enter, and wait until all others are outside."""
        give_up_at = time.monotonic() + MAX_WAIT_SECONDS
        thread = threading.get_ident()
        with self._condition:
            self._closers += 1
            while self._depths.keys() - {thread} and (seconds := give_up_at - time.monotonic()) > 0:
                self._condition.wait(seconds)

    def open(self) -> None:
        with self._condition:
            self._closers -= 1
            self._condition.notify_all()


_gate = _Gate()
_is_enabled = False


def keep_out_of_sqlite() -> None:
    """Have forks of this process wait for other threads that are inside SQLite, and these for a fork.

    For processes that use the database on threads and fork children that use it too, such as the main process of a
    Celery worker. A thread is inside during each call of Django's, and during the app's own transactions.
    """
    global _is_enabled
    if _is_enabled:
        return
    _is_enabled = True
    # Loaded with the first connection, which need not be one to SQLite.
    from django.db.backends.sqlite3 import base

    for owner, names in (
        (base.DatabaseWrapper, _CONNECTION_METHODS),
        (base.SQLiteCursorWrapper, _CURSOR_METHODS),
    ):
        for name in names:
            setattr(owner, name, _inside(getattr(owner, name)))
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def no_fork(db: BaseDatabaseWrapper) -> AbstractContextManager[object]:
    """Return the context of a transaction on this connection."""
    return _gate if _is_enabled and db.vendor == "sqlite" else nullcontext()


def _inside(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method during which no child is forked."""

    @functools.wraps(call)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _gate:
            return call(self, *args, **kwargs)

    return method


def _before() -> None:
    _gate.close()


def _after_in_parent() -> None:
    _gate.open()


def _after_in_child() -> None:
    global _gate
    _gate = _Gate()

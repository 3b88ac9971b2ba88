"""Keep forks out of transactions on SQLite.

SQLite keeps, in the memory of each process, which locks its connections hold on a file. A child that is forked while
another thread writes has a copy of that, in which the lock is never released: each of its own writes then fails with
"database is locked". (https://www.sqlite.org/howtocorrupt.html, section 2.6, warns of connections across a fork.)
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext

from django.db.backends.base.base import BaseDatabaseWrapper

#: Seconds that a fork waits at most for the transactions of other threads.
MAX_WAIT_SECONDS = 5.0

_lock = threading.RLock()
_is_enabled = False
_is_forking = False


def keep_out_of_transactions() -> None:
    """Have forks of this process wait for the app's own transactions on SQLite, and these for a fork.

    For processes that write on threads and fork children that write too, such as the main process of a Celery worker.
    """
    global _is_enabled
    if not _is_enabled:
        _is_enabled = True
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def no_fork(db: BaseDatabaseWrapper) -> AbstractContextManager[object]:
    """Return the context of a transaction on this connection."""
    return _lock if _is_enabled and db.vendor == "sqlite" else nullcontext()


def _before() -> None:
    global _is_forking
    _is_forking = _lock.acquire(timeout=MAX_WAIT_SECONDS)


def _after_in_parent() -> None:
    if _is_forking:
        _lock.release()


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()

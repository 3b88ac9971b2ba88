"""Which errors mean that the database, threads, memory, descriptors or disk space are not available now.

They are temporary: the app's loops try again, and a request is answered with 503. Other errors mean that a call is
wrong, or that the database refuses what it is given.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from django.db import DataError, Error, InterfaceError, OperationalError

from notifications.db import missing_tables
from notifications.db.sqlstates import UNKNOWN, UnlistedError, is_missing, is_not_migrated, meaning_of
from notifications.db.threads import NoThread
from notifications.extension.log_throttle import count_for_log, is_log_due

logger = logging.getLogger("notifications")

T = TypeVar("T")

#: Seconds between two tries of ``retry_while_unavailable()``.
RETRY_INTERVAL_SECONDS = 0.5

#: What Django raises while the database is restarted, unreachable or busy.
DATABASE_UNAVAILABLE = (OperationalError, InterfaceError)
#: For ``retry_on`` of the app's own tasks. Without OSError, as TimeoutError is one: a task that took too long would be
#: started again.
RETRIED_ERRORS = (*DATABASE_UNAVAILABLE, NoThread, MemoryError)
#: For ``except`` around the app's own database work, where an OSError can only come from the way to the database:
#: psycopg raises a bare one where there is no free descriptor. Around code of the project use ``is_unavailable()``.
UNAVAILABLE = (*DATABASE_UNAVAILABLE, NoThread, MemoryError, OSError)
#: The same where what the database refuses, such as a query for a table that does not exist, is caught too.
QUERY_ERRORS = (Error, *UNAVAILABLE)
#: The classes of all errors of which ``is_unavailable()`` may be true, for the ``except`` that asks it.
OUTAGES = (*QUERY_ERRORS, RuntimeError)
#: Those of ``is_damage()``.
DAMAGE = (OperationalError, DataError, ValueError, OverflowError)
#: No descriptor in the process, none in the system, no memory, no room on the disk.
ERROR_NUMBERS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
#: The RuntimeError of Python where a process cannot start a thread; asgiref lets it through.
NO_THREAD_MESSAGE = "can't start new thread"


class _Count:
    value = 0

    def add(self) -> None:
        self.value += 1


#: Errors of a table or column that is not migrated, in this process: the tables are compared again after one.
errors_of_missing_tables = _Count()


def is_unavailable(exc: BaseException) -> bool:
    """Return whether an error means that the database is away, busy or not migrated, or that a resource is lacking.

    Errors of the database are sorted by their codes (``sqlstates.py``), with which their classes do not always agree.
    """
    if isinstance(exc, OSError):
        return exc.errno in ERROR_NUMBERS
    if isinstance(exc, Error):
        if is_missing(exc):
            return is_not_migrated(exc)
        if meaning := meaning_of(exc):
            return meaning.is_temporary
    return isinstance(exc, UNAVAILABLE) or is_no_thread(exc)


def is_fault_of_nobody(exc: BaseException) -> bool:
    """Return whether an error, such as a deadlock, passes by itself. That a table is missing is its app's."""
    return is_unavailable(exc) and not is_missing(exc)


def is_away(exc: BaseException) -> bool:
    """Return whether an error certainly means that: one of those that no table lists may be about a value too."""
    return is_unavailable(exc) and not (isinstance(exc, Error) and meaning_of(exc) is UNKNOWN)


def classify(exc: Exception) -> Exception:
    """Return an error of the app's own work, one of the database with a class that says what its code means.

    One that is temporary is among ``UNAVAILABLE``, unlike Django's for a server that is read-only, and for a table that
    is not migrated yet; one that the value causes is not. Raise it from the cause of ``exc``, which has the code.
    """
    if is_not_migrated(exc):
        errors_of_missing_tables.add()
    if not isinstance(exc, Error) or isinstance(exc, UNAVAILABLE) == is_unavailable(exc):
        return exc
    kind = UnlistedError if meaning_of(exc) is UNKNOWN else OperationalError
    classified: Error = (kind if is_unavailable(exc) else DataError)(*exc.args)
    vars(classified).update(vars(exc))  # its notes, and the hook that raised it
    return classified


def is_no_thread(exc: BaseException) -> bool:
    """Return whether an error means that the process has no thread for a call."""
    return isinstance(exc, NoThread) or (isinstance(exc, RuntimeError) and str(exc) == NO_THREAD_MESSAGE)


def retry_while_unavailable(function: Callable[[], T], *, is_stopped: Callable[[], bool] | None = None) -> T:
    """Return what a call returns, after as many tries as it takes until the database is there.

    Blocks its thread meanwhile: for what must not be forgotten, such as the answer of a server.

    ``is_stopped``
        Says whether the error is raised instead, because the process ends.
    """
    is_logged = False
    while True:
        try:
            return function()
        except OUTAGES as exc:
            if not is_unavailable(exc) or (is_stopped and is_stopped()):
                raise
            if not is_logged:
                is_logged = True
                logger.warning("Could not write what must not be lost, which is tried again: %s", exc)
            time.sleep(RETRY_INTERVAL_SECONDS)


def is_damage(exc: BaseException) -> bool:
    """Return whether an error is about a value that was read, which another program has stored.

    It may be text that is not UTF-8 in SQLite, or a time that Python does not have.
    """
    if isinstance(exc, OperationalError):
        return "Could not decode to UTF-8" in str(exc)
    return isinstance(exc, DataError | ValueError | OverflowError)


@lru_cache(maxsize=1_000)
def log_damage(what: str, error: str) -> None:
    """Log, once in this process, that a row cannot be read or sent as it is."""
    logger.warning("Damaged row: %s: %s. Correct it by SQL.", what, error)


def is_query_error(exc: BaseException) -> bool:
    """Return whether an error is one of the database, or means that the process lacks a resource."""
    return isinstance(exc, Error) or is_unavailable(exc)


def log_if_not_migrated(exc: BaseException) -> bool:
    """Return whether an error means that migrations are not applied. Of all that do, log one a minute."""
    if not is_not_migrated(exc):
        return False
    if is_log_due("not migrated"):
        logger.error(
            "The database is not migrated: %s. %s", str(exc).splitlines()[0], missing_tables.describe_remedy()
        )
    return True


def log_retried(
    logger: logging.Logger,
    what: str,
    exc: BaseException,
    *,
    level: int = logging.WARNING,
    has_trace: bool = True,
) -> None:
    """Log that something has failed which is tried again, once in ``LOG_INTERVAL_SECONDS``, with how often it has.

    ``what``
        The constant phrase of the line, such as ``"Could not read changes"``.
    ``has_trace``
        Whether an error that is not about the database has its traceback, and a line of its own.
    """
    if log_if_not_migrated(exc):
        return
    is_expected = not has_trace or is_query_error(exc)
    if count := count_for_log(what if is_expected else f"{what}: {type(exc).__name__}"):
        times = f" ({count} times since the last such line)" if count > 1 else ""
        error = " ".join(str(exc).split()) or type(exc).__name__
        logger.log(
            level, "%s%s: %s", what, times, error, exc_info=None if is_expected or not has_trace else exc
        )

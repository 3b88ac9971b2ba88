"""What an error of the database means, by its code: one table for all that reads and writes.

Classes of exceptions do not say it. Django has ``OperationalError`` for a server that is away and for a row that is too
large for an index, and ``InternalError`` for a server that has become read-only.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.apps import AppConfig, apps
from django.db import DataError, Error, IntegrityError, InterfaceError, OperationalError, ProgrammingError


class Meaning(NamedTuple):
    """What a code means.

    ``is_temporary``
        The error ends when the server is well again, whatever the values are. What was to be written is kept.
    ``closes_connection``
        It belongs to the connection. That may answer ``SELECT 1`` and stay unusable, so it is closed.
    ``is_busy``
        Nothing was stored, and the next try within seconds may succeed.
    """

    is_temporary: bool
    closes_connection: bool = False
    is_busy: bool = False


BUSY = Meaning(True, is_busy=True)
UNUSABLE_CONNECTION = Meaning(True, closes_connection=True)
#: An error that no table lists. Usually the server is not well, and some poolers report all of their errors so. A value
#: that causes one is found by writing without it: see ``RecordLoop``.
UNKNOWN = Meaning(True, closes_connection=True)
#: Classes that say what an error that is not listed means: the database is away, or a value or a statement is wrong.
TELLING_CLASSES = (OperationalError, InterfaceError, DataError, IntegrityError, ProgrammingError)


class UnlistedError(OperationalError):
    """An error of the database that no table lists: see ``UNKNOWN``."""


#: By SQLSTATE of PostgreSQL, or by its first two characters. For a code that is not listed the class of the exception
#: decides. A missing table or column is temporary if it is one of an installed app of ours: see ``is_not_migrated()``.
SQLSTATES: dict[str, Meaning] = {
    "08": UNUSABLE_CONNECTION,  # connection failures, also those that a pooler reports
    "25": Meaning(False),  # a statement in a transaction that does not allow it, or has failed
    "25006": UNUSABLE_CONNECTION,  # read-only: a demoted server, a standby, the full disk of a provider
    "25P03": Meaning(
        True, closes_connection=True, is_busy=True
    ),  # the process was frozen inside the transaction
    "25P04": UNUSABLE_CONNECTION,  # transaction_timeout
    "26000": UNUSABLE_CONNECTION,  # a prepared statement that a pooler has on another connection
    "40001": BUSY,  # serialization failure
    "40P01": BUSY,  # deadlock
    "42P05": UNUSABLE_CONNECTION,  # a prepared statement whose name another client of a pooler has taken
    "42501": Meaning(True),  # no right to write: a provider revokes it where the disk is full
    "54": Meaning(False),  # a limit of the server that the value exceeds, such as the size of an index row
    "55P03": BUSY,  # lock_timeout
    "57P01": UNUSABLE_CONNECTION,  # ended by an administrator, or by a shutdown
    "57P02": UNUSABLE_CONNECTION,  # crash of another process of the server
    "57P03": UNUSABLE_CONNECTION,  # starting or shutting down
    "57P04": UNUSABLE_CONNECTION,  # database dropped, and perhaps restored later
    "57P05": UNUSABLE_CONNECTION,  # idle_session_timeout
}
#: By primary result code of SQLite.
SQLITE_CODES: dict[int, Meaning] = {
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    # A connection that was opened while the file or its disk was read-only stays so.
    sqlite3.SQLITE_READONLY: UNUSABLE_CONNECTION,
}
#: Returns the core's configuration and the installed extensions. ``apps.py`` sets it, because ``extension`` imports
#: what needs this module.
list_apps: Callable[[], Iterable[AppConfig]] = lambda: ()  # noqa: E731
#: A table, and a column, that does not exist.
MISSING = frozenset({"42P01", "42703"})


def sqlstate_of(exc: BaseException) -> str:
    """Return the SQLSTATE of an error of Django's, "" if it has none."""
    return getattr(exc.__cause__, "sqlstate", None) or ""


def meaning_of(exc: BaseException) -> Meaning | None:
    """Return what the code of an error of Django's means, None if it has none, or its class says it."""
    if isinstance(exc, UnlistedError):
        return UNKNOWN
    if code := sqlstate_of(exc):
        meaning = SQLSTATES.get(code) or SQLSTATES.get(code[:2])
    elif number := getattr(exc.__cause__, "sqlite_errorcode", None):
        meaning = SQLITE_CODES.get(number & 0xFF)
    else:
        return None
    return meaning or (None if isinstance(exc, TELLING_CLASSES) else UNKNOWN)


def closes_connection(exc: BaseException | None) -> bool:
    """Return whether an error belongs to its connection, which is then to be closed, though it may answer."""
    return isinstance(exc, Error) and (meaning := meaning_of(exc)) is not None and meaning.closes_connection


def is_busy(exc: BaseException) -> bool:
    """Return whether trying again at once may help: a lock of SQLite, a deadlock or serialization failure."""
    if meaning := meaning_of(exc):
        return meaning.is_busy
    return "database is locked" in str(exc) or "database table is locked" in str(exc)


def is_missing(exc: BaseException) -> bool:
    """Return whether an error means that a table or a column does not exist, of whatever app."""
    if code := sqlstate_of(exc):
        return code in MISSING
    return str(exc).startswith(("no such table", "no such column")) or "has no column named" in str(exc)


def is_not_migrated(exc: BaseException) -> bool:
    """Return whether an error means that a table or column of the app or of an installed extension does not exist.

    ``migrate`` has not run yet, which it will: a rolling deploy starts processes before it, or beside it.
    """
    if not isinstance(exc, Error) or not is_missing(exc):
        return False
    # The message names the table, or only a column. It may be translated, so only its names are read.
    words = set(re.findall(r"\w+", str(exc).partition("\n")[0]))
    own: set[Any] = {model for app in list_apps() for model in app.get_models(include_auto_created=True)}
    if tables := words & {model._meta.db_table for model in apps.get_models(include_auto_created=True)}:
        return not tables.isdisjoint(model._meta.db_table for model in own)
    if sqlstate_of(exc) == "42P01" or str(exc).startswith("no such table"):
        return False
    return not words.isdisjoint(field.column for model in own for field in model._meta.local_concrete_fields)

"""Take away what a job has set in its database session, and keep it for the job until then.

Where ``CONN_MAX_AGE`` is 0, Django closes the connection of a request at its end, so that nothing set in its session
reaches another one. The threads for the calls of async jobs keep their connections for the next jobs, and renew a
session that code of the project has used: ``renew()``. With another ``CONN_MAX_AGE`` sessions stay as they are, as
between two requests.

A session in which a job has set something, such as a search path, is that of the job until its end: see
``has_state()``. So is one with an open cursor. What a function of the database sets is not seen, and may be gone in the
job's next call; no other job gets it.
"""

from __future__ import annotations

import functools
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.deadlines import set_options, usable_connections
from notifications.db.thread_connections import close_connections, discard

logger = logging.getLogger("notifications.jobs")

P = ParamSpec("P")
R = TypeVar("R")

#: A statement that sets nothing in its session, unless it calls a function that does.
_DATA = re.compile(
    r"\s*(/\*.*?\*/\s*)?\(*(SELECT|INSERT|UPDATE|DELETE|WITH|VALUES|MERGE|BEGIN|START|COMMIT|ROLLBACK|SAVEPOINT|"
    r"RELEASE|EXPLAIN|TRUNCATE|LOCK|COPY|NOTIFY|SET\s+(LOCAL|TRANSACTION))\b",
    re.I | re.S,
)
#: Functions that do.
_SETTERS = re.compile("set_config|advisory_lock", re.I)
#: What Python code may set on a connection of psycopg, and of SQLite.
_ATTRIBUTES = (
    "isolation_level",
    "read_only",
    "deferrable",
    "cursor_factory",
    "row_factory",
    "text_factory",
)


_is_app_call: ContextVar[bool] = ContextVar("notifications_is_app_call", default=False)


class _Thread(threading.local):
    def __init__(self) -> None:
        #: The databases, by alias, in whose session something was set.
        self.aliases: set[str] = set()
        #: Code of the project has used a session since ``renew()``.
        self.is_used = False
        self.is_app_call = False
        self.is_watched = False


_thread = _Thread()


def call(function: Callable[[], R], *, is_of_app: bool = False) -> R:
    """Return what a call of a job returns, and take note of what it does to the sessions of this thread.

    ``is_of_app``
        See ``is_app_call()``.
    """
    if not _thread.is_watched:
        for db in usable_connections():
            _watch(db)
        _thread.is_watched = True
    _thread.is_app_call = is_of_app
    try:
        return function()
    finally:
        _thread.is_used |= not _thread.is_app_call


def app_sync_to_async(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Do what ``sync_to_async()`` does, for a function of the app: one that leaves sessions as they are."""
    call_on_thread = sync_to_async(function)

    @functools.wraps(function)
    async def call_app(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _is_app_call.set(True)
        try:
            return await call_on_thread(*args, **kwargs)
        finally:
            _is_app_call.reset(token)

    return call_app


def is_app_call() -> bool:
    """Return whether the call that an async job makes in this context is one of ``app_sync_to_async()``.

    Asked where the call is given to a thread: one that code of the project makes on that thread changes nothing.
    """
    return _is_app_call.get()


def note_project_code() -> None:
    """Take note that a call of the app calls code of the project, which may set something in a session."""
    _thread.is_app_call = False


def is_used() -> bool:
    """Return whether code of the project has used a session of this thread since it was renewed, or it has state."""
    return _thread.is_used or has_state()


def has_state() -> bool:
    """Return whether something was set in a session of this thread, or a cursor stays open between two calls."""
    return bool(_thread.aliases)


def renew() -> None:
    """Make the sessions of this thread as new, and the connections of Django, on which libraries set attributes.

    It is not called inside a transaction.
    """
    for db in connections.all(initialized_only=True):
        if db.settings_dict["CONN_MAX_AGE"] == 0:
            try:
                _renew(db)
            except Exception:  # the next query opens a connection
                logger.exception("Could not renew a database session: %s", db.alias)
                discard(db)
                discard(connections[db.alias])  # the new one may have taken over the session
    _thread.aliases.clear()
    _thread.is_used = False


def close_unchanged() -> None:
    """Close the connections of this thread, except those whose session is that of a job."""
    close_connections(but=_thread.aliases)


def _renew(db: BaseDatabaseWrapper) -> None:
    new: Any = connections.create_connection(db.alias)
    set_options(new)
    _watch(new)
    raw = db.connection
    if raw is None or not _clear(db):
        # A pool of Django's would give what is only returned to it, with all that was set, to the next request.
        discard(db) if db.alias in _thread.aliases else db.close()
        connections[db.alias] = new
        return
    db.connection = None
    connections[db.alias] = new
    open_connection = new.get_new_connection

    def reuse(params: dict[str, Any]) -> Any:
        new.get_new_connection = open_connection
        return raw

    new.get_new_connection = reuse
    new.connect()  # sets what Django, and receivers of connection_created, set in a new session


def _clear(db: BaseDatabaseWrapper) -> bool:
    """Have the database forget all that was set in a session. Returns False if the connection is to be closed.

    To connect to PostgreSQL takes twenty times as long as this, most of it on the server; a new connection to SQLite
    reads the whole schema. In a session of SQLite nothing is set by functions of the database, which are not seen.
    """
    raw: Any = db.connection
    if (
        db.alias in _thread.aliases
        or db.settings_dict["OPTIONS"].get("pool")
        or attributes_of(raw) != getattr(raw, "attributes_at_start", None)
    ):
        return False
    if db.vendor == "sqlite":
        return True
    try:
        raw.execute("DISCARD ALL")
        raw._prepared.clear()
    except db.Database.Error:
        return False
    return True


def _watch(db: Any) -> None:
    """Take note of what sets something in the sessions of a connection of Django."""
    db.execute_wrappers.append(_note_statement)
    open_cursor, open_connection = db.chunked_cursor, db.get_new_connection

    def chunked_cursor() -> Any:
        _keep(db)
        return open_cursor()

    def get_new_connection(params: dict[str, Any]) -> Any:
        if db.vendor == "sqlite":
            params = {"factory": _SQLiteConnection, **params}
        raw = open_connection(params)
        if isinstance(raw, _SQLiteConnection):
            raw.on_raw_access = functools.partial(_keep, db)
        if hasattr(raw, "__dict__"):  # not of psycopg 2
            raw.attributes_at_start = attributes_of(raw)
        return raw

    db.chunked_cursor, db.get_new_connection = chunked_cursor, get_new_connection


class _SQLiteConnection(sqlite3.Connection):
    """Takes note of what is executed and defined past Django, whose cursors are of a class of its own."""

    on_raw_access: Callable[[], object] = staticmethod(lambda: None)
    attributes_at_start: tuple[Any, ...] = ()

    def cursor(self, factory: Any = None) -> Any:
        if factory is None:
            self.on_raw_access()
            return super().cursor()
        return super().cursor(factory)


def _noting_access(name: str) -> Any:
    method = getattr(sqlite3.Connection, name)

    @functools.wraps(method)
    def call_noted(self: _SQLiteConnection, *args: Any, **kwargs: Any) -> Any:
        self.on_raw_access()
        return method(self, *args, **kwargs)

    return call_noted


for _name in (
    *("execute", "executemany", "executescript", "create_function", "create_aggregate", "create_collation"),
    *("set_authorizer", "set_progress_handler", "set_trace_callback", "enable_load_extension", "setlimit"),
):
    if hasattr(sqlite3.Connection, _name):  # how Python was compiled, and which it is
        setattr(_SQLiteConnection, _name, _noting_access(_name))


def attributes_of(raw: Any) -> tuple[Any, ...]:
    """Return what is set on a connection in Python."""
    # Django sets the isolation level of SQLite for autocommit, which is checked after each call.
    is_sqlite = isinstance(raw, sqlite3.Connection)
    return tuple(getattr(raw, name, None) for name in _ATTRIBUTES[is_sqlite:])


def _note_statement(
    execute: Callable[..., R], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> R:
    is_data = isinstance(sql, str) and _DATA.match(sql) and ";" not in sql.rstrip("; \n")
    if not _thread.is_app_call and not (is_data and not _SETTERS.search(sql)):
        _keep(context["connection"])
    return execute(sql, params, many, context)


def _keep(db: BaseDatabaseWrapper) -> None:
    _thread.aliases.add(db.alias)
    db.close_at = None  # not by a pool either

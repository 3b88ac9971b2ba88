"""A statement that is sent again and again is planned once on a connection to PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db.sqlstates import sqlstate_of
from notifications.db.transactions import (
    ISOLATION,
    NOT_DURABLE,
    accepts_multiple_statements,
    connection,
    execute_many,
    execute_one,
    in_callers_transaction,
    retrying,
)
from notifications.db.unavailable import QUERY_ERRORS

#: Times that a statement is sent in the same words before it is prepared.
MIN_REPEATS = 3
#: Statements that are prepared on one connection at most, and those that are counted.
MAX_PREPARED, MAX_COUNTED = 20, 50
#: What holds while it is planned, also when its tables were analyzed since. The plan stays while a table that was empty
#: grows, so it must not read a whole table; what that is assumed to cost must not have it compiled.
_PLANNING = "SET LOCAL enable_seqscan TO off; SET LOCAL jit TO off"
#: What PostgreSQL answers if the connection has no such statement, as behind a pooler that gives each transaction
#: another one, and if the types of its columns have changed.
_LOST = frozenset({"26000", "0A000"})


class _Session:
    """The statements of one connection: the names of those that are prepared, and how often others were sent."""

    def __init__(self, raw_connection: Any) -> None:
        self.raw_connection = raw_connection
        self.names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def is_due(self, text: str) -> bool:
        """Count a statement. Return whether it is to be executed as a prepared one."""
        if text in self.names:
            return True
        if len(self._counts) >= MAX_COUNTED:
            self._counts.clear()
        self._counts[text] = self._counts.get(text, 0) + 1
        return self._counts[text] > MIN_REPEATS and len(self.names) < MAX_PREPARED

    def execute(self, text: str) -> list[tuple[Any, ...]]:
        if text not in self.names:
            # No other connection has this name: a pooler may give one the server's session of another.
            name = f"notifications_{uuid4().hex}"
            execute_one(f"PREPARE {name} AS {text.replace('%', '%%')}", ())
            self.names[text] = name
        settings = f"{ISOLATION}; {NOT_DURABLE}; {_PLANNING}"
        return execute_many([(settings, ()), (f"EXECUTE {self.names[text]}", ())])[-1]


class _Process:
    can_prepare = True


def execute_repeated(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of one statement, as ``execute_one(is_durable=False)`` does on PostgreSQL.

    After ``MIN_REPEATS`` times with the same parameters its plan is kept.
    """
    db = connection()
    if _Process.can_prepare and not in_callers_transaction(db) and accepts_multiple_statements(db):
        text: str = db.ops.compose_sql(sql, params)  # type: ignore[attr-defined]  # PostgreSQL's
        session = _session_of(db)
        if session.is_due(text):
            try:
                return retrying(lambda: session.execute(text), db)
            except QUERY_ERRORS as exc:
                if sqlstate_of(exc) not in _LOST:
                    raise
                _Process.can_prepare = False
    return execute_one(sql, params, is_durable=False)


def _session_of(db: BaseDatabaseWrapper) -> _Session:
    db.ensure_connection()
    session: _Session | None = vars(db).get("_notifications_prepared")
    if session is None or session.raw_connection is not db.connection:
        session = vars(db)["_notifications_prepared"] = _Session(db.connection)
    return session

"""The two databases: what is written, or done, in another way for each of them.

verbs       the verbs that both have, which the rest of the app calls
postgresql, sqlite  the verbs of each

SQL that differs as a whole stands in both files under one name. Other modules ask for what they need, not for the
database.
"""

from __future__ import annotations

from typing import Any

from notifications.db.dialects.postgresql import PostgreSQL
from notifications.db.dialects.sqlite import SQLite
from notifications.db.dialects.verbs import Dialect as Dialect

_DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (PostgreSQL(), SQLite())}


def find_dialect(db: Any) -> Dialect | None:
    """Return the dialect of a connection, None if its database is neither of the two."""
    return _DIALECTS.get(db.vendor)


def dialect_of(db: Any) -> Dialect:
    """Return the dialect of a connection. For a database that a check refuses, it is that of SQLite."""
    return _DIALECTS.get(db.vendor) or _DIALECTS["sqlite"]

"""The two databases: what is written, or done, in another way for each of them.

verbs       the verbs that both have, which the rest of the app calls
postgresql, sqlite  the verbs of each

SQL that differs as a whole stands in both files under one name. Other modules ask for what they need, not for the
database.
"""

from __future__ import annotations

from notifications.db.dialects.postgresql import PostgreSQL
from notifications.db.dialects.sqlite import SQLite
from notifications.db.dialects.verbs import DIALECTS
from notifications.db.dialects.verbs import Dialect as Dialect
from notifications.db.dialects.verbs import dialect_of as dialect_of
from notifications.db.dialects.verbs import find_dialect as find_dialect

DIALECTS |= {dialect.name: dialect for dialect in (PostgreSQL(), SQLite())}

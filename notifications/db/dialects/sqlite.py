"""SQLite: one file, with one lock for all writers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from notifications.db.dialects.verbs import Dialect, Statement


class SQLite(Dialect):
    """See ``Dialect``."""

    name = "sqlite"
    takes_times = False
    runs_in_process = True
    has_one_writer = True
    stores_rings = True

    def greatest(self, *expressions: str) -> str:
        return f"max({', '.join(expressions)})"

    def is_same(self, left: str, right: str) -> str:
        return f"{left} IS {right}"

    def contains(self, column: str) -> str:
        return f"{column} LIKE %s ESCAPE '\\'"

    def last_characters(self, text: str, count: int) -> str:
        return f"substr({text}, -{count})"

    def minute_of(self, moment: str) -> str:
        return f"substr({moment}, 1, 16)"

    def join_texts(self, text: str) -> str:
        return f"group_concat({text}, ',')"

    def json_array(self, value: str) -> str:
        return f"json_group_array({value})"

    def by_index(self, name: str) -> str:
        return f" INDEXED BY {name}"

    def join_by_index(self, table: str, condition: str, *, is_outer: bool = False) -> str:
        # It joins in the order of the text.
        return f"{'LEFT' if is_outer else 'CROSS'} JOIN {table} ON {condition}"

    def join_each(self, columns: str, rows: str, alias: str) -> str:
        # It has no LATERAL, but a subquery of a join condition may refer to the tables before it.
        return f"CROSS JOIN notifications_job AS {alias} ON {alias}.id IN (SELECT id {rows})"

    def rows_like(self, table: str, index: str, column: str, pattern: str) -> str:
        return f"FROM {table} INDEXED BY {index} WHERE {column} LIKE {pattern} ESCAPE '\\'"

    def following_queue(self, jobs: str) -> str:
        # It would compare only the first of two columns by the index.
        order = "ORDER BY backend, queue_name LIMIT 1"
        of_backend = f"SELECT id {jobs} AND backend = alias AND queue_name > name {order}"
        of_next = f"SELECT id {jobs} AND backend > alias {order}"
        return (
            "SELECT job.backend, job.queue_name FROM pairs CROSS JOIN notifications_job AS job "
            f"ON job.id = coalesce(({of_backend}), ({of_next}))"
        )

    def texts_table(self, texts: Sequence[str]) -> tuple[str, Any]:
        return "json_each(%s)", json.dumps(texts)

    def begin(self, db: Any, statements: Sequence[str]) -> Callable[..., Any] | None:
        self.take_lock(db)
        return None

    def take_lock(self, db: Any) -> None:
        # A deferred transaction, which is Django's default, may fail at its first write if it has read before.
        if not self.begins_with_lock(db):
            with db.cursor() as cursor:
                cursor.execute("DELETE FROM notifications_stream WHERE 0")

    def begins_with_lock(self, db: Any) -> bool:
        mode = db.settings_dict["OPTIONS"].get("transaction_mode") or ""
        return mode.upper() in ("IMMEDIATE", "EXCLUSIVE")

    def read_version(self, db: Any) -> int | None:
        with db.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            return int(cursor.fetchone()[0])

    def has_open_transaction(self, db: Any) -> bool:
        return bool(db.connection.in_transaction)

    def is_open(self, raw: Any) -> bool:
        return raw.in_transaction is not None

    def count_approximately(self, table: str) -> Statement:
        # The range of its row numbers. Two subqueries: it scans the whole table for min and max in one.
        return f"SELECT (SELECT max(rowid) FROM {table}) - (SELECT min(rowid) FROM {table}) + 1", []

    def index_names(self) -> str:
        return "SELECT name FROM sqlite_master WHERE type = 'index'"

    def columns_of(self, number: int) -> str:
        return f"""
            SELECT tables.name, columns.name, columns."notnull" AND columns.dflt_value IS NULL
            FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
            WHERE tables.name IN ({", ".join(["%s"] * number)})
        """

    def read_options(self, db: Any) -> dict[str, Any]:
        with db.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            return {"journal_mode": cursor.fetchone()[0]}

    def try_write(self, write: Callable[[], object]) -> None:
        """Do nothing: its lock may be taken for longer than a probe waits."""

    def watched_file(self, db: Any) -> str:
        return "" if db.is_in_memory_db() else str(db.settings_dict["NAME"])

"""PostgreSQL, by psycopg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from notifications.db.dialects.verbs import Dialect, Statement


class PostgreSQL(Dialect):
    """See ``Dialect``."""

    name = "postgresql"
    takes_times = True
    runs_in_process = False
    has_one_writer = False
    stores_rings = False

    def greatest(self, *expressions: str) -> str:
        return f"greatest({', '.join(expressions)})"

    def is_same(self, left: str, right: str) -> str:
        return f"{left} IS NOT DISTINCT FROM {right}"

    def contains(self, column: str) -> str:
        return f"{column} ILIKE %s"

    def in_subquery(self, column: str, subquery: str) -> str:
        # IN would be a join with the subquery, for which it reads all of the table.
        return f"{column} = ANY(ARRAY({subquery}))"

    def last_characters(self, text: str, count: int) -> str:
        return f"right({text}, {count})"

    def minute_of(self, moment: str) -> str:
        return f"date_trunc('minute', {moment})"

    def join_texts(self, text: str) -> str:
        return f"string_agg({text}, ',')"

    def json_array(self, value: str) -> str:
        return f"json_agg({value})::text"

    def any_id(self, column: str) -> str:
        return f"min({column}::text)"  # it has no least UUID

    def id_from(self, text: str) -> str:
        return f"{text}::uuid"

    def timeline(self) -> str:
        name = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
        return f"CASE WHEN pg_is_in_recovery() THEN '' ELSE {name} END"

    def join_by_index(self, table: str, condition: str, *, is_outer: bool = False) -> str:
        # It reads the whole table instead from about 50 rows before it on, unless OFFSET 0 keeps the subquery as it is.
        alias = table.rsplit(maxsplit=1)[-1]
        kind = "LEFT" if is_outer else "INNER"
        return f"{kind} JOIN LATERAL (SELECT * FROM {table} WHERE {condition} OFFSET 0) AS {alias} ON TRUE"

    def join_each(self, columns: str, rows: str, alias: str) -> str:
        return f"CROSS JOIN LATERAL (SELECT {columns} {rows}) AS {alias}"

    def rows_like(self, table: str, index: str, column: str, pattern: str) -> str:
        return f"FROM {table} WHERE {column}::text LIKE {pattern}"

    def following_queue(self, jobs: str) -> str:
        columns = "CAST(backend AS text), CAST(queue_name AS text)"
        order = "ORDER BY backend, queue_name LIMIT 1"
        following = f"SELECT {columns} {jobs} AND (backend, queue_name) > (alias, name) {order}"
        return f"SELECT following.* FROM pairs, LATERAL ({following}) AS following"

    def texts_table(self, texts: Sequence[str]) -> tuple[str, Any]:
        return "unnest(%s::text[]) AS keys(value)", list(texts)

    def without_compilation(self) -> list[Statement]:
        # Of queues and executors it estimates 250 rows, and would compile the query for 280 ms to run it for 15 ms.
        return [("SET LOCAL jit = off", [])]

    def begin(self, db: Any, statements: Sequence[str]) -> Callable[..., Any] | None:
        def begin(
            execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
        ) -> Any:
            db.execute_wrappers.remove(begin)
            # A cursor with a name is one of the server, as of QuerySet.iterator().
            has_name = getattr(context["cursor"].cursor, "name", None)
            if many or has_name or not self.accepts_multiple_statements(db):
                with db.connection.cursor() as cursor:
                    for statement in statements:
                        cursor.execute(statement)
                return execute(sql, params, many, context)
            result = execute("; ".join([*statements, sql]), params, many, context)
            for _ in statements:
                context["cursor"].nextset()
            return result

        db.execute_wrappers.append(begin)
        return begin

    def begin_statements(self, sql: str) -> list[Statement]:
        return [(sql, ())]

    def lock_statements(self, query: str, params: Sequence[Any]) -> list[Statement]:
        return [(f"{query} FOR NO KEY UPDATE", params)]

    def accepts_multiple_statements(self, db: Any) -> bool:
        # With server-side binding each statement is prepared.
        return not db.settings_dict["OPTIONS"].get("server_side_binding")

    def limit_lock_wait(self, db: Any, seconds: int) -> None:
        with db.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{seconds}s'")

    def lock_rows(self, cursor: Any, query: str, params: Sequence[Any], rows: list[Any]) -> list[Any]:
        if not rows:
            return []
        cursor.execute(f"{query} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED", params)
        return list(cursor.fetchall())

    def lock_number(self, db: Any, number: int) -> None:
        with db.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])

    def try_lock_numbers(self, db: Any, numbers: Sequence[int]) -> Sequence[bool]:
        if not numbers:
            return []
        with db.cursor() as cursor:
            calls = ", ".join(["pg_try_advisory_xact_lock(%s)"] * len(numbers))
            cursor.execute(f"SELECT {calls}", numbers)
            return list(cursor.fetchone())

    def make_commits_durable(self) -> list[Statement]:
        # A commit waits for the disk only if its transaction has written something.
        return [("SELECT pg_logical_emit_message(true, 'notifications', '')", ())]

    def has_fixed_snapshot(self, db: Any) -> bool:
        return bool(db.in_atomic_block)

    def has_open_transaction(self, db: Any) -> bool:
        # Active, in a transaction, in a failed one (libpq). A connection of psycopg 2 has only ``info``.
        raw = db.connection
        return (getattr(raw, "pgconn", None) or raw.info).transaction_status in (1, 2, 3)

    def is_open(self, raw: Any) -> bool:
        return not raw.closed

    def close_raw(self, db: Any) -> None:
        if db.connection is not None:
            db.connection.close()

    def clock_query(self) -> str:
        return "SELECT clock_timestamp()"

    def count_approximately(self, table: str) -> Statement:
        return "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table]

    def index_names(self) -> str:
        return (
            "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid "
            "WHERE indisvalid AND pg_table_is_visible(pg_class.oid)"
        )

    def columns_of(self, number: int) -> str:
        return f"""
            SELECT relname, attname, attnotnull AND NOT atthasdef AND attidentity = ''
            FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
            WHERE relname IN ({", ".join(["%s"] * number)}) AND pg_table_is_visible(pg_class.oid)
                AND attnum > 0 AND NOT attisdropped
        """

"""Statements that PostgreSQL plans once for each connection, because planning takes longer than executing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import count
from typing import Any

from django.db import DatabaseError

from notifications.db.transactions import (
    accepts_multiple_statements,
    connection,
    execute_many,
    execute_one,
    in_callers_transaction,
    isolation,
)

#: Statements that are prepared on one connection at most: the first ones.
MAX_STATEMENTS = 8
#: A plan that is made for an empty table would otherwise scan it: with 100,000 rows added since, a claim took 1.1 s.
#: Where a small table has no index that helps, it is scanned at a cost for which PostgreSQL compiles code, in 0.2 s.
PLAN_SETTINGS = (
    "SET LOCAL plan_cache_mode TO force_generic_plan; SET LOCAL enable_seqscan TO off; SET LOCAL jit TO off"
)
#: How much a table may grow before its statements are planned again, beside doubling. In bytes.
GROWTH_ALLOWED = 1 << 18
#: A pooler in transaction mode has changed the session, which lacks the statement or has it already; or a migration has
#: changed the type of a column that it returns.
CANNOT_EXECUTE = ("26000", "42P05", "0A000")


def execute_prepared(
    sql: str, params: Sequence[Any], *, table: str, is_durable: bool = True
) -> list[tuple[Any, ...]]:
    """Return the rows of one statement as ``execute_one`` does, with one plan for all parameters on PostgreSQL.

    PostgreSQL plans it again after ``table`` has doubled, or been analyzed.
    """
    db = connection()
    if in_callers_transaction(db) or not accepts_multiple_statements(db):
        return execute_one(sql, params, is_durable=is_durable)
    with db.cursor() as cursor:
        # In the connection of the driver, because the next one has no prepared statements.
        attributes = vars(cursor.connection)
    # The size of the table for each statement, at most that for which it was planned. None: the session loses them.
    sizes: dict[str, int] | None = attributes.setdefault("_notifications_prepared", {})
    # Behind a pooler another client may have prepared another statement in the same session.
    name = f"notifications_{hashlib.sha256(sql.encode()).hexdigest()[:32]}"
    if sizes is None or (name not in sizes and len(sizes) >= MAX_STATEMENTS):
        return execute_one(sql, params, is_durable=is_durable)
    statements: list[tuple[str, Sequence[Any]]] = [(f"{isolation(is_durable)}; {PLAN_SETTINGS}", ())]
    if name not in sizes:
        numbers = count(1)
        text = re.sub("%[%s]", lambda found: "%%" if found[0] == "%%" else f"${next(numbers)}", sql)
        statements.append((f"PREPARE {name} AS {text}", ()))
    statements += [
        (f"EXECUTE {name} ({', '.join(['%s'] * len(params))})", params),
        (f"SELECT pg_relation_size('{table}')", ()),
    ]
    try:
        *_, rows, [(size,)] = execute_many(statements)
    except DatabaseError as exc:
        if getattr(exc.__cause__, "sqlstate", None) not in CANNOT_EXECUTE:
            raise
        attributes["_notifications_prepared"] = None
        return execute_one(sql, params, is_durable=is_durable)
    sizes[name] = min(size, sizes.get(name, size))
    if size > 2 * sizes[name] + GROWTH_ALLOWED:
        execute_many([("DISCARD PLANS", ())])
        sizes.update(dict.fromkeys(sizes, size))
    return rows

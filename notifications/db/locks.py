"""Queries that lock rows, where the database can."""

from __future__ import annotations

from typing import Any

from notifications.db.transactions import connection


def lock_query(rows: Any, *, skip_locked: bool = True) -> Any:
    """Return a query that locks its rows. Rows that another transaction holds are skipped, or else waited for."""
    features = connection().features
    if not features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=skip_locked, no_key=features.has_select_for_no_key_update)


def lock_sql(*, skip_locked: bool = True) -> str:
    """Return the SQL that ``lock_query`` appends to a query."""
    if not connection().features.has_select_for_update_skip_locked:
        return ""
    return " FOR NO KEY UPDATE SKIP LOCKED" if skip_locked else " FOR NO KEY UPDATE"

"""Read rows although another program may have damaged one of them.

Manual SQL, an import or a restore may write values that cannot be read: text that is not UTF-8 in SQLite, a time that
Python cannot represent. The driver then fails for the whole query, and so for every user whose rows are in it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import DataError, OperationalError, models

from notifications import times
from notifications.db.transactions import connection

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=models.Model)


class ColumnNotRead(RuntimeError):
    """The column of an attribute was not read by ``read_rows``. Django would load it with one query for each row."""


def read_rows(model: type[M], columns: Sequence[str], sql: str, params: Sequence[Any]) -> list[M]:
    """Return the rows of a query, which selects at least these columns, as instances of the model.

    A value that cannot be read is replaced by the default of its field, and the row is logged. No row is left out,
    because limits and positions depend on the number of rows. An attribute of a column that was not read raises
    ``ColumnNotRead``.
    """
    try:
        rows = list(_raw(model, sql, params))
    except Exception as exc:
        if not is_damage(exc):
            raise
        with connection().cursor() as cursor:
            cursor.execute(f"SELECT id FROM ({sql}) AS found", params)
            ids = [id for (id,) in cursor.fetchall()]
        rows = [row for id in ids if (row := _read_row(model, columns, id))]
    for row in rows:
        row.refresh_from_db = _refuse_load  # type: ignore[method-assign]
    return rows


def is_damage(exc: Exception) -> bool:
    """Return whether an error is about a value that was read, and not about the database."""
    if isinstance(exc, OperationalError):
        return "Could not decode to UTF-8" in str(exc)
    return isinstance(exc, DataError | ValueError | OverflowError)


@lru_cache(maxsize=1_000)
def log_damage(what: str, error: str) -> None:
    """Log, once in this process, that a row cannot be read or sent as it is."""
    logger.warning("Damaged row: %s: %s", what, error)


def _read_row(model: type[M], columns: Sequence[str], id: Any) -> M | None:
    """Return a row by its id, in the form of the database; if it is damaged, read column by column."""
    try:
        row = next(iter(_select(model, columns, id)), None)
    except Exception as exc:
        if not is_damage(exc):
            raise
        log_damage(f"{model._meta.verbose_name} {id}", str(exc))
        values = [_read_column(model, column, id) for column in columns]
        row = model.from_db(connection().alias, [_field(model, column).attname for column in columns], values)
    if row is not None:
        row.raw_id = id  # type: ignore[attr-defined]
    return row


def _read_column(model: type[M], column: str, id: Any) -> Any:
    field = _field(model, column)
    try:
        for row in _select(model, {"id", column}, id):
            return getattr(row, field.attname)
    except Exception as exc:
        if not is_damage(exc):
            raise
    return times.now() if isinstance(field, models.DateTimeField) and not field.null else field.get_default()


def _field(model: type[M], column: str) -> Any:
    return next(field for field in model._meta.concrete_fields if field.column == column)


def _select(model: type[M], columns: Any, id: Any) -> Any:
    table = connection().ops.quote_name(model._meta.db_table)
    return _raw(model, f"SELECT {', '.join(columns)} FROM {table} WHERE id = %s", [id])


def _refuse_load(*, fields: Sequence[str], **options: Any) -> None:
    """Replace ``refresh_from_db``, which Django calls to load deferred columns."""
    raise ColumnNotRead(
        f"The columns {', '.join(fields)} were not read. Add them to those that are selected."
    )


def _raw(model: type[M], sql: str, params: Sequence[Any]) -> Any:
    return model._default_manager.using(connection().alias).raw(sql, params)

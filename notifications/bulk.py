"""Many rows at once, without what the ORM does for each of them: that was most of the time of a small job.

Rows are read and written as the models' fields would; signals of models are not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from django.db.models import BigIntegerField, BooleanField, CharField, Model, TextField
from django.db.models.base import ModelState

from notifications.transactions import connection

M = TypeVar("M", bound=Model)

#: Fields whose values the databases take as they are.
PLAIN = {BigIntegerField, BooleanField, CharField, TextField}


def read(rows: Any) -> list[Any]:
    """Return what a query finds as instances of its model, with all their fields."""
    model, alias = rows.model, rows.db
    names = [field.attname for field in model._meta.concrete_fields]
    return [_instance(model, alias, names, values) for values in rows.values_list(*names)]


def select(model: type[M], clauses: str, params: Sequence[Any] = ()) -> list[M]:
    """Return the rows of ``SELECT … FROM table`` with these clauses: where making the query would cost too much."""
    db = connection()
    fields = model._meta.concrete_fields
    names = [field.attname for field in fields]
    columns, table = ", ".join(field.column for field in fields), model._meta.db_table
    converters = [
        (at, convert, column)
        for at, column in enumerate(field.get_col(table) for field in fields)
        for convert in (*db.ops.get_db_converters(column), *column.get_db_converters(db))
    ]
    found = []
    with db.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {table} {clauses}", params)
        for row in cursor.fetchall():
            values = list(row)
            for at, convert, column in converters:
                values[at] = convert(values[at], column, db)
            found.append(_instance(model, db.alias, names, values))
    return found


def insert(rows: Sequence[Model], *, only: str = "", params: Sequence[Any] = ()) -> bool:
    """Insert new rows of one model.

    ``only`` is a condition, with its parameters, under which one row is inserted. Returns whether they were.
    """
    if not rows:
        return True
    db = connection()
    model = type(rows[0])
    fields = [(field, field.attname, type(field) in PLAIN) for field in model._meta.concrete_fields]
    values = [
        [
            told[name] if plain or told[name] is None else field.get_db_prep_save(told[name], db)
            for field, name, plain in fields
        ]
        for told in map(vars, rows)
    ]
    columns = ", ".join(field.column for field, _, _ in fields)
    marks = f"({', '.join(['%s'] * len(fields))})"
    into = f"INSERT INTO {model._meta.db_table} ({columns}) "
    sql = f"{into}VALUES "
    with db.cursor() as cursor:
        if only:
            (row,) = values
            types = [f"::{_type(model, field.column)}" for field, _, _ in fields]  # type: ignore[arg-type]
            casts = types if db.vendor == "postgresql" else [""] * len(fields)
            # What is NULL is not sent: of a new row that is a third.
            sent = ["NULL" if value is None else f"%s{cast}" for value, cast in zip(row, casts, strict=True)]
            told_values = [value for value in row if value is not None]
            cursor.execute(f"{into}SELECT {', '.join(sent)} WHERE {only}", [*told_values, *params])
            if not cursor.rowcount:
                return False
        elif db.vendor == "sqlite":
            cursor.executemany(sql + marks, values)
        else:  # one statement: for each row one would be sent, parsed and planned
            cursor.execute(sql + ", ".join([marks] * len(rows)), list(chain.from_iterable(values)))
    for told in rows:
        told._state.adding, told._state.db = False, db.alias
    return True


def update(
    model: type[Model],
    columns: Sequence[str],
    where: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    also: Sequence[str] = (),
    only: str = "",
) -> None:
    """Change rows that this transaction holds locked: PostgreSQL changes them in any order.

    Each of ``rows`` has the values, as the database takes them, of ``columns`` and then those that the columns in
    ``where`` must have. ``also`` are assignments like ``"version = version + 1"``, ``only`` is a condition like
    ``"state = 'running'"``, the same for all rows.
    """
    if not rows:
        return
    db = connection()
    table = model._meta.db_table
    if db.vendor != "postgresql":
        changes = ", ".join([*(f"{name} = %s" for name in columns), *also])
        guards = " AND ".join([*(f"{name} = %s" for name in where), *filter(None, [only])])
        with db.cursor() as cursor:
            cursor.executemany(f"UPDATE {table} SET {changes} WHERE {guards}", rows)
        return
    types = [_type(model, name) for name in (*columns, *where)]  # type: ignore[arg-type]
    arrays = ", ".join(f"%s::{type}[]" for type in types)
    names = ", ".join(f"v{n}" for n in range(len(types)))
    changes = ", ".join([*(f"{name} = v{n}" for n, name in enumerate(columns)), *also])
    guards = " AND ".join(
        [*(f"{name} = v{n}" for n, name in enumerate(where, len(columns))), *filter(None, [only])]
    )
    with db.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {changes} FROM unnest({arrays}) AS v ({names}) WHERE {guards}",
            [list(column) for column in zip(*rows, strict=True)],
        )


def _instance(model: type[M], alias: str, names: list[str], values: Sequence[Any]) -> M:
    instance: M = object.__new__(model)
    instance.__dict__.update(zip(names, values, strict=True))
    state = instance._state = ModelState()
    state.adding, state.db = False, alias
    return instance


@cache
def _type(model: Any, column: str) -> str:
    """Return the type of a column on PostgreSQL."""
    field = next(field for field in model._meta.concrete_fields if field.column == column)
    return field.db_type(connection()).partition("(")[0]  # type: ignore[union-attr]

"""Read, lock and write rows, without the work that the ORM does for each of them.

Values are converted as the fields of the models do. Signals of models are not sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from itertools import compress
from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.base import ModelState

from notifications.db.adapters import adapters, array, converters, type_of
from notifications.db.transactions import connection, dialect, execute_many

M = TypeVar("M", bound=Model)


def read(rows: Any) -> list[Any]:
    """Return the rows of a queryset as instances of its model, with all fields."""
    model, alias = rows.model, rows.db
    names = [field.attname for field in model._meta.concrete_fields]
    return [_instance(model, alias, names, values) for values in rows.values_list(*names)]


def select_rows(model: type[M], clauses: str, params: Sequence[Any] = ()) -> list[M]:
    """Return the rows of ``SELECT … FROM table`` with these clauses, without the cost of building a queryset."""
    columns, table = ", ".join(field.column for field in model._meta.concrete_fields), model._meta.db_table
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {table} {clauses}", params)
        return instances(model, cursor.fetchall())


def instances(model: type[M], rows: Iterable[Sequence[Any]]) -> list[M]:
    """Return instances for rows as a cursor returns them, with the columns of all fields in their order.

    ``Model.from_db()`` in its place, and querysets in place of ``read``, made claiming 50 jobs 10 % slower on SQLite
    and 14 % on PostgreSQL.
    """
    db = connection()
    names = [field.attname for field in model._meta.concrete_fields]
    converting = converters(model, db)
    made = []
    for row in rows:
        values = list(row)
        for at, convert, column, takes_none in converting:
            if takes_none or values[at] is not None:
                values[at] = convert(values[at], column, db)
        made.append(_instance(model, db.alias, names, values))
    return made


def new_row(model: type[M], **values: Any) -> M:
    """Return a new instance with these values, and the defaults of all other fields.

    ``Model()`` in its place made enqueueing a job 10 to 14 % slower on SQLite, 2 to 8 % on PostgreSQL.
    """
    instance: M = object.__new__(model)
    constants, makers = defaults_of(model)  # type: ignore[arg-type]
    attributes = constants | values
    for name, make in makers.items():
        if name not in values:
            attributes[name] = make()
    attributes["_state"] = ModelState()
    instance.__dict__ = attributes
    return instance


def insert_rows(rows: Sequence[Model], *, ignore_conflicts: bool = False) -> None:
    """Insert new rows of one model, with ``ignore_conflicts`` but those that exist.

    ``bulk_create()`` in its place made recording 50 outcomes 37 % slower on SQLite and 27 % on PostgreSQL, and
    recording one outcome 19 % and 10 %. Models of other packages need it: for ``auto_now_add``, values and keys that
    the database makes, and names that are words of SQL.
    """
    if not rows:
        return
    db = connection()
    model = type(rows[0])
    if not model.__module__.startswith("notifications."):
        model._base_manager.using(db.alias).bulk_create(rows, ignore_conflicts=ignore_conflicts)
        return
    adapting = adapters(model, model._meta.concrete_fields, db)
    values = [values_of(row, adapting) for row in rows]
    columns_of_values = list(zip(*values, strict=True))
    # Columns that are NULL in all rows are left out.
    has_values = tuple(
        [column[0] is not None or column.count(None) < len(rows) for column in columns_of_values]
    )
    conflicts = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    with db.cursor() as cursor:
        if db.vendor == "sqlite":
            sql = _insertion_of_one(model, has_values) + conflicts  # type: ignore[arg-type]
            cursor.executemany(sql, [tuple(compress(row, has_values)) for row in values])
        else:  # one short statement: executemany sends one for each row, and psycopg and the server parse a long one
            columns_of_values = list(compress(columns_of_values, has_values))
            same = _same(columns_of_values, len(columns_of_values))
            params = _as_parameters(columns_of_values, same)
            sql = _insertion_of_many(model, has_values, same) + conflicts  # type: ignore[arg-type]
            _write(cursor, sql, params)
    for row in rows:
        row._state.adding, row._state.db = False, db.alias


def update_rows(
    model: type[Model],
    columns: Sequence[str],
    where: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    assignments: Sequence[str] = (),
    condition: str = "",
) -> None:
    """Update rows that this transaction has locked, because PostgreSQL updates them in any order.

    Each of ``rows`` has the new values of ``columns``, then the values that the columns in ``where`` must have, as
    parameters for the database. ``assignments`` like ``"version = version + 1"`` and a ``condition`` like
    ``"state = 'running'"`` are the same for all rows.
    """
    if not rows:
        return
    db = connection()
    table = model._meta.db_table
    if db.vendor != "postgresql":
        changes = ", ".join([f"{name} = %s" for name in columns] + [*assignments])
        first, *others = where
        conditions = "".join(
            [f" AND {name} = %s" for name in others] + [f" AND {condition}"] * bool(condition)
        )
        update, at = f"UPDATE {table} SET {changes} WHERE {first}", len(columns)
        # A claim gives many rows the same values: one statement takes two thirds of the time for 100.
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for row in rows:
            groups.setdefault((*row[:at], *row[at + 1 :]), []).append(row[at])
        with db.cursor() as cursor:
            if len(groups) == len(rows):
                cursor.executemany(f"{update} = %s{conditions}", rows)
            else:
                cursor.executemany(
                    f"{update} IN (SELECT value FROM json_each(%s)){conditions}",
                    [(*same[:at], json.dumps(keys), *same[at:]) for same, keys in groups.items()],
                )
        return
    columns_of_values = list(zip(*rows, strict=True))
    same = _same(columns_of_values, len(columns))
    new, many = _parameters(model, (*columns, *where), same)  # type: ignore[arg-type]
    changes = ", ".join(
        [f"{name} = {value}" for name, value in zip(columns, new, strict=False)] + [*assignments]
    )
    old = zip(where, new[len(columns) :], strict=True)
    conditions = " AND ".join([f"{name} = {value}" for name, value in old] + [condition] * bool(condition))
    with db.cursor() as cursor:
        sql = f"UPDATE {table} SET {changes}{many} WHERE {conditions}"
        _write(cursor, sql, _as_parameters(columns_of_values, same))


@contextmanager
def one_round_trip(*, is_used: bool = True) -> Iterator[None]:
    """Send the statements of ``insert`` and ``update`` in the block at its end, on PostgreSQL in one round trip.

    ``is_used``
        False sends each at once, so that its error is raised where it was made.
    """
    if not is_used:
        yield
        return
    db = connection()
    statements: list[tuple[str, list[Any]]] = []
    db.__dict__["_notifications_statements"] = statements
    try:
        yield
    finally:
        del db.__dict__["_notifications_statements"]
    if statements:
        execute_many(statements)


def is_one_round_trip(db: Any) -> bool:
    """Return whether statements on this connection wait for the end of ``one_round_trip()``."""
    return db.vendor == "postgresql" and "_notifications_statements" in db.__dict__


def _write(cursor: Any, sql: str, params: list[Any]) -> None:
    statements = connection().__dict__.get("_notifications_statements")
    if statements is None:
        cursor.execute(sql, params)
    else:
        statements.append((sql, params))


def values(
    model: type[Model], columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[str, list[Any]]:
    """Return SQL and parameters that yield rows of values, which are as the database takes them, of these columns."""
    if connection().vendor != "postgresql":
        row = f"({', '.join(['%s'] * len(columns))})"
        return f"VALUES {', '.join([row] * len(rows))}", [value for row in rows for value in row]
    # One short statement: psycopg parses a long one each time.
    arrays = ", ".join(f"%s::{type_of(model, name)}[]" for name in columns)  # type: ignore[arg-type]
    return f"SELECT * FROM unnest({arrays})", [array(column) for column in zip(*rows, strict=True)]


def where_in(model: type[Model], column: str, keys: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the condition and parameters that a column is one of these keys, which are as the database takes them."""
    if connection().vendor != "postgresql":
        return f"{column} IN ({', '.join(['%s'] * len(keys))})", list(keys)
    return f"{column} = ANY(%s::{type_of(model, column)}[])", [array(keys)]  # type: ignore[arg-type]


def column_values(model: Any, columns: tuple[str, ...], rows: Iterable[Model]) -> list[list[Any]]:
    """Return the values of these columns of each row, which are also their attributes, as the database takes them."""
    fields = map(model._meta.get_field, columns)
    adapting = adapters((model, columns), fields, connection())
    return [values_of(row, adapting) for row in rows]


def values_of(row: Model, adapting: Iterable[tuple[str, Callable[[Any], Any] | None]]) -> list[Any]:
    attributes = vars(row)
    return [
        value if value is None or adapt is None else adapt(value)
        for name, adapt in adapting
        for value in (attributes[name],)
    ]


@cache
def _columns_of(model: Any, has_values: tuple[bool, ...]) -> tuple[str, ...]:
    return tuple(field.column for field in compress(model._meta.concrete_fields, has_values))


@cache
def _insertion_of_one(model: Any, has_values: tuple[bool, ...]) -> str:
    """Return the INSERT for SQLite of a row with values in these of its columns."""
    columns = _columns_of(model, has_values)
    marks = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES ({marks})"


@cache
def _insertion_of_many(model: Any, has_values: tuple[bool, ...], same: tuple[bool, ...]) -> str:
    """Return the INSERT for PostgreSQL. Its parameters are those of ``_as_parameters``."""
    columns = _columns_of(model, has_values)
    values, many = _parameters(model, columns, same)
    return f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT {', '.join(values)}{many}"


def _same(columns_of_values: Sequence[Sequence[Any]], number: int) -> tuple[bool, ...]:
    """Return of each column whether it has one value in all rows, and is one of the first ``number``."""
    if len(columns_of_values[0]) == 1:
        return (True,) * number + (False,) * (len(columns_of_values) - number)
    return tuple(
        n < number and column.count(column[0]) == len(column) for n, column in enumerate(columns_of_values)
    )


def _as_parameters(columns_of_values: Sequence[Sequence[Any]], same: Sequence[bool]) -> list[Any]:
    """Return the values that all rows share, and arrays of the others."""
    params = [column[0] for column, is_same in zip(columns_of_values, same, strict=True) if is_same]
    return params + [
        array(column) for column, is_same in zip(columns_of_values, same, strict=True) if not is_same
    ]


@cache
def _parameters(model: Any, columns: tuple[str, ...], same: tuple[bool, ...]) -> tuple[list[str], str]:
    """Return what stands in SQL for the value of each column, and the FROM clause of those that differ."""
    types = [type_of(model, column) for column in columns]
    values = [
        f"%s::{type}" if is_same else f"v{n}"
        for n, (type, is_same) in enumerate(zip(types, same, strict=True))
    ]
    arrays = [f"%s::{type}[]" for type, is_same in zip(types, same, strict=True) if not is_same]
    names = ", ".join(value for value in values if value.startswith("v"))
    return values, f" FROM unnest({', '.join(arrays)}) AS many ({names})" if arrays else ""


@cache
def defaults_of(model: Any) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    callables = [
        field for field in model._meta.concrete_fields if field.has_default() and callable(field.default)
    ]
    constants = [field for field in model._meta.concrete_fields if field not in callables]
    return (
        {field.attname: field.get_default() for field in constants},
        {field.attname: field.default for field in callables},
    )


def _instance(model: type[M], alias: str, names: list[str], values: Sequence[Any]) -> M:
    instance: M = object.__new__(model)
    instance.__dict__.update(zip(names, values, strict=True))
    state = instance._state = ModelState()
    state.adding, state.db = False, alias
    return instance


def lock_name(kind: str, name: object) -> None:
    """Lock a name until the end of the transaction, after any other one that has locked it.

    For rows that are counted before one is inserted: there may be none that could be locked. On SQLite the lock of the
    database, which the app's own transactions take first, does it.
    """
    dialect().lock_number(connection(), _lock_number(kind, str(name)))


def try_lock_names(names: Sequence[tuple[str, str]]) -> list[bool]:
    """Lock names, each of a kind, until the end of the transaction; return of each whether no other one holds it."""
    return list(dialect().try_lock_numbers(connection(), [_lock_number(*name) for name in names]))


def _lock_number(kind: str, name: str) -> int:
    """Return the 64 bits of a name's advisory lock: a hash, because other users of the database have locks too."""
    text = f"notifications {kind} {name}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


def lock_query(rows: Any, *, skip_locked: bool = True) -> Any:
    """Return a query that locks its rows. Rows that another transaction holds are skipped, or else waited for."""
    features = connection().features
    if not features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=skip_locked, no_key=features.has_select_for_no_key_update)


def lock_sql(*, skip_locked: bool = True) -> str:
    """Return the SQL that ``lock_query`` appends to a query.

    NO KEY UPDATE, because FOR UPDATE conflicts with the key-share locks of foreign keys.
    """
    if not connection().features.has_select_for_update_skip_locked:
        return ""
    return " FOR NO KEY UPDATE SKIP LOCKED" if skip_locked else " FOR NO KEY UPDATE"

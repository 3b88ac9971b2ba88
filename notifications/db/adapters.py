"""Columns: how their values are given to the databases and read from them, and of what type they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache, partial
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db.models import (
    AutoField,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    PositiveIntegerField,
    SmallIntegerField,
    TextField,
    UUIDField,
)

from notifications.db.transactions import connection
from notifications.times import MomentField, to_db

_HEX_FORMAT = attrgetter("hex")

#: Types whose text PostgreSQL reads; one made from them may have another text.
IN_TEXT = {int, bool, UUID, datetime, type(None)}

#: Fields whose values the databases take as they are.
PLAIN = {
    AutoField,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    PositiveIntegerField,
    SmallIntegerField,
    TextField,
}


def adapter(field: Any, db: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of a field, not None, one that the database takes; None where it is one already."""
    while field.is_relation:
        field = field.target_field
    if type(field) in PLAIN:
        return None
    if type(field) is UUIDField:
        return None if db.features.has_native_uuid_field else _HEX_FORMAT
    if type(field) is MomentField:
        return None if db.vendor == "postgresql" else partial(to_db, db=db)
    return lambda value: field.get_db_prep_save(value, db)


def adapters(of: Any, fields: Iterable[Any], db: Any) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Return the names of these fields, each with its ``adapter``; ``of`` stands for them."""
    # Kept by the connection: some are methods of it.
    kept = db.__dict__.setdefault("_notifications_adapters", {})
    if of not in kept:
        kept[of] = [(field.attname, adapter(field, db)) for field in fields]
    return kept[of]


def converters(model: Any, db: Any) -> list[tuple[int, Callable[..., Any], Any, bool]]:
    """Return what is to be called with values of the database, the place of each, its column, and whether with None."""
    # Kept by the connection: some are methods of it.
    kept = db.__dict__.setdefault("_notifications_converters", {})
    if model not in kept:
        columns = [field.get_col(model._meta.db_table) for field in model._meta.concrete_fields]
        kept[model] = [
            (at, convert, column, own)
            for at, column in enumerate(columns)
            for own, found in enumerate((db.ops.get_db_converters(column), column.get_db_converters(db)))
            for convert in found
        ]
    return kept[model]


def array(values: Sequence[Any]) -> Any:
    """Return values for an array parameter of PostgreSQL: as its text, which psycopg would make item by item.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    if not all(kind in IN_TEXT or issubclass(kind, str) for kind in set(map(type, values))):
        return list(values)  # the host's own keys
    return "{" + ",".join(map(_item, values)) + "}"


def _item(value: Any) -> str:
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return f'"{value!s}"'
    # As a method of str: what a value of a host's enumeration says of itself is not what it is.
    return '"' + str.replace(value, "\\", "\\\\").replace('"', '\\"') + '"'


@cache
def type_of(model: Any, column: str) -> str:
    """Return the type of a column on PostgreSQL, of any length: a cast would cut what is too long."""
    field = next(field for field in model._meta.concrete_fields if field.column == column)
    name = field.db_type(connection()).partition("(")[0]  # type: ignore[union-attr]
    return "bpchar" if name in ("char", "character") else name  # without a length these are of one character

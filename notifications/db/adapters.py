"""Convert values of columns, and keys of users, to parameters of the databases and back, as fields of models do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import (
    AutoField,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    Model,
    PositiveIntegerField,
    SmallAutoField,
    SmallIntegerField,
    TextField,
    UUIDField,
)

from notifications import times
from notifications.db.dialects import dialect_of
from notifications.db.transactions import connection
from notifications.times import MomentField

_hex = attrgetter("hex")

#: Types whose ``str()`` PostgreSQL reads, also without quotes. Subclasses may have another text.
TEXT_TYPES = {int, bool, UUID, datetime}

#: Fields whose values need no conversion.
PLAIN_FIELDS = {
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
    """Return the function that converts a value of a field, not None, to a parameter; None where none is needed."""
    while field.is_relation:
        field = field.target_field
    if type(field) in PLAIN_FIELDS:
        return None
    if type(field) is UUIDField:
        return None if db.features.has_native_uuid_field else _hex
    if type(field) is MomentField:
        return None if dialect_of(db).takes_times else partial(times.to_db, db=db)
    return lambda value: field.get_db_prep_save(value, db)


def adapters(of: Any, fields: Iterable[Any], db: Any) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Return the names of these fields, each with its ``adapter``; ``of`` is the key in the cache."""
    # Cached on the connection, because some are its methods.
    cache = db.__dict__.setdefault("_notifications_adapters", {})
    if of not in cache:
        cache[of] = [(field.attname, adapter(field, db)) for field in fields]
    return cache[of]


def converters(
    model: Any, db: Any, names: tuple[str, ...] | None = None
) -> list[tuple[int, Callable[..., Any], Any, bool]]:
    """Return (position, converter, column, whether it takes None) for values that the database returns.

    ``names``
        The names of the fields whose values they are; all fields by default.
    """
    # Cached on the connection, because some are its methods.
    cache = db.__dict__.setdefault("_notifications_converters", {})
    key = model, names, settings.USE_TZ  # which a test may override
    if key not in cache:
        fields = map(model._meta.get_field, names) if names else model._meta.concrete_fields
        columns = [field.get_col(model._meta.db_table) for field in fields]
        is_utc = times.stores_text(db) and settings.USE_TZ and db.timezone is UTC
        cache[key] = [
            (position, convert, column, takes_none)
            for position, column in enumerate(columns)
            for takes_none, found in enumerate(
                (
                    [times.as_aware]
                    if is_utc and type(column.target) is MomentField
                    else db.ops.get_db_converters(column),
                    column.get_db_converters(db),
                )
            )
            for convert in found
        ]
    return cache[key]


def array(values: Sequence[Any]) -> Any:
    """Return values as an array parameter of PostgreSQL, in text form, which psycopg would make item by item.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    kinds = set(map(type, values))
    if kinds <= TEXT_TYPES:
        return "{" + ",".join(map(str, values)) + "}"
    if not all(kind in TEXT_TYPES or issubclass(kind, str | None) for kind in kinds):
        return list(values)  # keys of the host's own type
    return "{" + ",".join(map(_item, values)) + "}"


def _item(value: Any) -> str:
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return f'"{value!s}"'
    # A method of str, because members of an enumeration may override replace() and str().
    return '"' + str.replace(value, "\\", "\\\\").replace('"', '\\"') + '"'


@cache
def type_of(model: Any, column: str) -> str:
    """Return the type of a column on PostgreSQL without its length, because a cast would truncate longer values."""
    field = next(field for field in model._meta.concrete_fields if field.column == column)
    name = field.db_type(connection()).partition("(")[0]  # type: ignore[union-attr]
    return "bpchar" if name in ("char", "character") else name  # "char" without a length is one character


def user_to_db(user: Any) -> Any:
    """Return a key as a parameter for the database."""
    if type(user) is int and _max_plain_integer():
        return user
    return _user_field().get_db_prep_value(user, connection())


def user_from_db(user: Any) -> Any:
    """Return the host's key for a value from the database."""
    if type(user) is int and _max_plain_integer():
        return user
    field, db = _user_field(), connection()
    for convert in field.get_db_converters(db):
        user = convert(user, None, db)
    return field.to_python(user)


@cache
def _max_plain_integer() -> int:
    """Return up to which number keys are Django's own integers, which need no conversion; 0 if they need one."""
    # By the type itself: a subclass of the host's may convert values.
    bits = {SmallAutoField: 15, AutoField: 31, BigAutoField: 63}
    return 2 ** bits.get(type(_user_field()), 0) - 1


@cache
def _user_field() -> Any:
    return get_user_model()._meta.pk


def user_keys_of(users: Any) -> list[Any]:
    """Return the keys of one user, or of an iterable of users or keys, each once. Raises TypeError or ValueError."""
    if type(users) is int and 0 < users <= _max_plain_integer():
        return [users]  # a fifth of the time
    if isinstance(users, Model | str | int | UUID) or not isinstance(users, Iterable):
        users = [users]
    return list(dict.fromkeys(_user_key(user) for user in users))


def _user_key(user: Any) -> Any:
    if getattr(user, "is_anonymous", False):
        raise ValueError(
            "An anonymous user has no inbox. Call it for users who are signed in: request.user.is_authenticated."
        )
    if user is None or isinstance(user, bool) or getattr(user, "pk", user) is None:
        raise ValueError(f"{user!r} is not a saved user. Pass a saved user or its primary key.")
    if isinstance(user, Model) and not isinstance(user, get_user_model()):
        raise TypeError(f"{user!r} is not a user. Pass a saved user or its primary key.")
    try:
        key = _user_field().to_python(getattr(user, "pk", user))
        if not isinstance(user, Model):
            if not isinstance(user, str | int | UUID | type(key)):  # 1.0, of which the key 1 was made
                raise ValueError(
                    f"{user!r} is not a primary key of a user. Pass a saved user or its primary key."
                )
            # 10**30 would fail all rows of a group in the database.
            _user_field().run_validators(key)
        return key
    except ValidationError as exc:
        raise ValueError(f"{user!r} is not a primary key of a user: {' '.join(exc.messages)}") from exc

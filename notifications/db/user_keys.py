"""Convert keys of users, whose type the host chooses, for raw SQL."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db.models import AutoField, BigAutoField, SmallAutoField

from notifications.db.transactions import connection
from notifications.models import Stream


def to_db(user: Any) -> Any:
    """Return a key as a parameter for the database."""
    if type(user) is int and _are_plain_integers():
        return user
    return Stream._meta.pk.get_db_prep_value(user, connection())


def from_db(user: Any) -> Any:
    """Return the host's key for a value from the database."""
    field, db = Stream._meta.pk.target_field, connection()
    for convert in field.get_db_converters(db):
        user = convert(user, None, db)
    return field.to_python(user)


@cache
def _are_plain_integers() -> bool:
    """Return whether keys are Django's own integers, which need no conversion."""
    # Not isinstance: a subclass of the host's may convert values.
    return type(Stream._meta.pk.target_field) in (AutoField, BigAutoField, SmallAutoField)

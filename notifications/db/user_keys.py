"""Keys of users, of whatever type the host's are, as statements of our own need them."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db.models import AutoField, BigAutoField, SmallAutoField

from notifications.db.transactions import connection
from notifications.models import Stream


def to_db(user: Any) -> Any:
    """Return a key as the database takes it."""
    if type(user) is int and _are_numbers():
        return user
    return Stream._meta.pk.get_db_prep_value(user, connection())


def from_db(user: Any) -> Any:
    """Return a key that the database gave as the host knows it."""
    field, db = Stream._meta.pk.target_field, connection()
    for convert in field.get_db_converters(db):
        user = convert(user, None, db)
    return field.to_python(user)


@cache
def _are_numbers() -> bool:
    """Whether keys are Django's own numbers, which databases take as they are."""
    # Not isinstance: a field of the host's that is made from one of these may write others.
    return type(Stream._meta.pk.target_field) in (AutoField, BigAutoField, SmallAutoField)

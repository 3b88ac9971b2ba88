"""The database of the process that enqueues, from Django's settings."""

from __future__ import annotations

from functools import cache
from typing import Any

#: Enough for the limit of 1,000 active jobs of a user.
USERS = 100


def prepare() -> None:
    """Create tables and users."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    get_user_model().objects.bulk_create([get_user_model()(username=f"user{n}") for n in range(USERS)])


@cache
def users() -> list[Any]:
    """Return the keys of the users."""
    from django.contrib.auth import get_user_model

    return list(get_user_model().objects.order_by("pk").values_list("pk", flat=True)[:USERS])


def execute(sql: str) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []

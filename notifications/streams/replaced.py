"""Find archived notifications that a newer one with the same key has replaced, which are not unarchived."""

from __future__ import annotations

from typing import Any

from django.db.models import Max

from notifications.db.transactions import connection
from notifications.models import Notification
from notifications.streams import listing


def without_replaced(user: Any, rows: list[Notification]) -> list[Notification]:
    """Return these rows of a user (key) but those that a newer notification with the same key has replaced.

    One statement for all of them: one for each row read everything that is newer, and made 10,000 rows quadratic.
    """
    keys = {row.key for row in rows if row.key}
    if not keys:
        return rows
    newer = Notification.objects.using(connection().alias).filter(
        user_id=user, key__in=keys, raised__gt=min(row.raised for row in rows if row.key)
    )
    # Each partition by itself, whose index finds what was raised later.
    newest_of_keys, *others = (
        newer.filter(partition).values_list("key").annotate(newest=Max("raised"))
        for partition in listing.partitions()
    )
    newest: dict[str, int] = {}
    for key, raised in newest_of_keys.union(*others, all=True):
        newest[key] = max(raised, newest.get(key, 0))
    return [row for row in rows if not row.key or newest.get(row.key, 0) <= row.raised]

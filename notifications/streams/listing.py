"""Lists of notifications, newest first.

An inbox has four parts: unread or read, archived or not. Each has an index of its own, and each notification is in
one of them only: a new one costs one entry instead of one for each way to list it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from django.db.models import Q

from notifications.db.damaged_rows import read_rows
from notifications.db.user_keys import to_db
from notifications.models import Notification

# What an item shows.
COLUMNS = (
    *("id", "user_id", "seq", "raised", "level", "category", "title", "body", "url", "job", "data"),
    *("created_at", "read_at", "archived_at"),
)


def read_newest(
    user: Any,
    limit: int,
    *,
    head: int,
    after: int | None = None,
    archived: bool = False,
    read: bool | None = None,
    category: str | None = None,
) -> list[Notification]:
    """Return at most ``limit`` notifications of a user (key) that were raised up to ``head``, newest first.

    ``after`` is the ``raised`` of the last row of the page before. ``read`` None lists both the read and the unread.
    """
    # One bound: of two upper bounds SQLite uses only one, and reads everything above the other.
    below = head + 1 if after is None else min(after, head + 1)
    params = [to_db(user), below, *([] if category is None else [category])]
    found = [
        f"SELECT * FROM (SELECT {', '.join(COLUMNS)} FROM notifications_notification "
        f"WHERE user_id = %s AND raised < %s AND {_null('read_at', is_read)} AND {_null('archived_at', archived)}"
        f"{'' if category is None else ' AND category = %s'} ORDER BY raised DESC LIMIT {limit}) AS part"
        for is_read in ((False, True) if read is None else (read,))
    ]
    # One statement: a notification that is marked meanwhile is neither shown twice nor passed over.
    sql = f"{' UNION ALL '.join(found)} ORDER BY raised DESC LIMIT {limit}"
    return read_rows(Notification, COLUMNS, sql, params * len(found))


def parts(*, read: bool | None = None, archived: bool | None = None) -> list[Q]:
    """Return the conditions of the parts of an inbox that are so, for queries that read each by its index."""
    return [
        Q(read_at__isnull=not is_read, archived_at__isnull=not is_archived)
        for is_read, is_archived in product((False, True), repeat=2)
        if read in (None, is_read) and archived in (None, is_archived)
    ]


def _null(column: str, has_value: bool) -> str:
    return f"{column} IS {'NOT ' * has_value}NULL"

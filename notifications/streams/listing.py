"""Lists of notifications, newest first.

The notifications of a user are in four partitions: unread or read, archived or not. Each partition has an index, and
each notification is in one partition, so a new one costs one index entry instead of one for each way to list it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from django.db.models import Q

from notifications.db.damaged_rows import read_rows
from notifications.db.user_keys import to_db
from notifications.models import Notification

#: The columns that an item shows.
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

    ``after`` is the ``raised`` of the last row of the previous page. ``read`` None lists both the read and the unread.
    """
    # One bound: of two upper bounds SQLite uses only one, and reads everything above the other.
    bound = head + 1 if after is None else min(after, head + 1)
    params = [to_db(user), bound, *([] if category is None else [category])]
    selects = [
        f"SELECT * FROM (SELECT {', '.join(COLUMNS)} FROM notifications_notification "
        f"WHERE user_id = %s AND raised < %s "
        f"AND {_is_null('read_at', not is_read)} AND {_is_null('archived_at', not archived)}"
        f"{'' if category is None else ' AND category = %s'} ORDER BY raised DESC LIMIT {limit}) AS part"
        for is_read in ((False, True) if read is None else (read,))
    ]
    # One statement, so that a notification that is marked meanwhile is listed exactly once.
    sql = f"{' UNION ALL '.join(selects)} ORDER BY raised DESC LIMIT {limit}"
    return read_rows(Notification, COLUMNS, sql, params * len(selects))


def partitions(*, read: bool | None = None, archived: bool | None = None) -> list[Q]:
    """Return the conditions of the partitions in these states (None: in either).

    A query for each of them uses the index of that partition; one query for several of them would use none.
    """
    return [
        Q(read_at__isnull=not is_read, archived_at__isnull=not is_archived)
        for is_read, is_archived in product((False, True), repeat=2)
        if read in (None, is_read) and archived in (None, is_archived)
    ]


def _is_null(column: str, is_null: bool) -> str:
    return f"{column} IS {'' if is_null else 'NOT '}NULL"

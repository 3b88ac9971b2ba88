"""Groups of notifications, which the inbox shows as one row each.

A group is what the project names one, or what happens on one day with the same category and target, or to the jobs of
one task. It is a column of the notification, and no row of its own: nothing has to be kept up to date.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from uuid import UUID

from notifications import validators
from notifications.db.transactions import connection, database
from notifications.db.user_keys import to_db
from notifications.models import Notification
from notifications.streams import listing
from notifications.streams.listing import COLUMNS, Filters
from notifications.streams.stream_reads import read_rows

#: What the keys of groups begin with that the project names, and of those that it does not.
NAMED, UNNAMED = "n:", "d:"
#: How Celery writes the ids of its groups.
UUID_TEXT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Notifications from which on such a group is one row.
MIN_SIZES = {NAMED: 2, UNNAMED: 3}
#: Notifications that one query reads to find rows of a page, queries that find none, and groups on a page at most.
MAX_ROWS_SCANNED, MAX_SCANS, MAX_GROUPS = 500, 10, 30
#: Notifications that are counted of all groups of a page together, and of one of them at least.
MAX_COUNTED, MIN_COUNTED = 1_000, 100


@dataclass(kw_only=True, slots=True)
class Group:
    """The notifications of a group that a list has.

    ``newest``
        The position of the newest of them.
    ``counts``
        How many of those that were counted have each level.
    ``total``
        How many there are, at least.
    ``is_unread``
        Whether any of those is unread.
    ``titles``
        The first and the last of their titles: what both begin with, all do.
    ``has_more``
        Whether there are more than ``total``.
    """

    key: str
    newest: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    total: int = 0
    titles: set[str] = field(default_factory=set)
    is_unread: bool = False
    has_more: bool = False

    @property
    def name(self) -> str:
        """The name that the project has given it, ``""`` if none."""
        return group_name(self.key)

    @property
    def is_one_row(self) -> bool:
        return self.total >= MIN_SIZES.get(self.key[:2], math.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupedRows:
    """The rows of a list, in its order.

    ``groups``
        Groups by the ids of their newest notifications, which are among the rows and stand for all of them.
    ``end``
        The position of the last notification that was read, None if it is the last of the list.
    """

    rows: list[Notification]
    groups: dict[UUID, Group]
    end: int | None


def make_group_key(
    group: Any, category: str, target: dict[str, str] | None, task: str, day: date
) -> str | None:
    """Return the key of the group of a notification, None if it is in none. Raises TypeError or ValueError.

    ``group``
        What the project calls it, ``""`` if it does not.
    ``target``, ``task``
        What it is about, and the path of the task of its job.
    """
    if group:
        return NAMED + validators.text("group", group, validators.MAX_GROUP_LENGTH, required=True)
    if category and target:
        return _make_unnamed_key(f"{category}\n{target['name']}\n{target.get('url')}", day)
    return _make_unnamed_key(task, day) if task else None


@lru_cache(maxsize=1_000)
def _make_unnamed_key(subject: str, day: date) -> str:
    return UNNAMED + blake2b(f"{day}\n{subject}".encode(), digest_size=9).hexdigest()


def group_name(key: str) -> str:
    """Return what the project calls a group, ``""`` if it does not, or by a UUID, which is no name for people."""
    name = key.removeprefix(NAMED) if key.startswith(NAMED) else ""
    return "" if UUID_TEXT.fullmatch(name) else name


def read_grouped(
    user: Any,
    limit: int,
    *,
    head: int,
    below: int,
    above: int | None = None,
    filters: Filters,
    oldest_first: bool = False,
) -> GroupedRows:
    """Return at most ``limit`` rows of a list of a user (key) with ``above < raised < below``.

    They are the newest, or with ``oldest_first`` the oldest. A group is where its newest notification up to ``head``
    is. There may be fewer rows, even none, before the end of the list, because a group may have many notifications.
    """
    for _ in range(MAX_SCANS):
        found = _read_once(user, limit, head, below, above, filters, oldest_first)
        if found.rows or found.end is None:
            break
        below, above = (below, found.end) if oldest_first else (found.end, above)
    return found


def read_group(user: Any, key: str, *, head: int, filters: Filters) -> tuple[Group, Notification | None]:
    """Return the group with a key, also of fewer notifications than are one row, and the newest of them, if any."""
    group = _count(user, [key], head=head, filters=filters)[key]
    return group, Notification.objects.using(database()).filter(user=user, raised=group.newest).first()


def _read_once(
    user: Any, limit: int, head: int, below: int, above: int | None, filters: Filters, oldest_first: bool
) -> GroupedRows:
    columns = ("raised", "id", "group_key")
    with connection().cursor() as cursor:
        cursor.execute(
            *listing.select(
                columns,
                user,
                MAX_ROWS_SCANNED,
                above=above,
                below=below,
                filters=filters,
                oldest_first=oldest_first,
            )
        )
        scanned = cursor.fetchall()
    keys = dict.fromkeys(key for _, _, key in scanned if key is not None)
    groups = _count(user, list(keys)[:MAX_GROUPS], head=head, filters=filters) if keys else {}
    ids: list[Any] = []
    end = None
    for raised, id, key in scanned:
        group = groups.get(key)
        if key is not None and group is None:
            break
        if group is None or not group.is_one_row or group.newest == raised:
            if len(ids) == limit:
                break
            ids.append(id)
        end = raised
    else:
        if len(scanned) < MAX_ROWS_SCANNED:
            end = None
    rows = _fetch(ids, oldest_first=oldest_first)
    ones = {group.newest: group for group in groups.values() if group.is_one_row}
    return GroupedRows(
        rows=rows,
        groups={row.pk: ones[row.raised] for row in rows if row.raised in ones},
        end=end,
    )


def _count(user: Any, keys: Sequence[str], *, head: int, filters: Filters) -> dict[Any, Group]:
    """Return groups by their keys, with the newest notifications of each that a list has counted."""
    limit = max(MIN_COUNTED, MAX_COUNTED // len(keys))
    # One more than the limit is read of each partition, so that a group of exactly as many is not called larger.
    selects = [
        f"SELECT * FROM (SELECT group_key, {number} AS number, level, title, read_at IS NULL AS is_unread, raised "
        f"FROM notifications_notification WHERE user_id = %s AND group_key = %s AND raised <= %s AND {partition} "
        f"ORDER BY raised DESC LIMIT {limit + 1}) AS part"
        for number, partition in enumerate(filters.partitions())
    ]
    params = [part for key in keys for part in [to_db(user), key, head] * len(selects)]
    groups = {key: Group(key=key) for key in keys}
    found: Counter[tuple[str, int]] = Counter()
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT group_key, number, level, is_unread, COUNT(*), MAX(raised), MIN(title), MAX(title) "
            f"FROM ({' UNION ALL '.join(selects * len(keys))}) AS counted GROUP BY group_key, number, level, is_unread",
            params,
        )
        for key, number, level, is_unread, count, newest, *titles in cursor.fetchall():
            group = groups[key]
            group.counts[level] = group.counts.get(level, 0) + count
            group.is_unread |= bool(is_unread)
            group.newest = max(group.newest, newest)
            group.titles.update(titles)
            found[key, number] += count
    for (key, _), count in found.items():
        groups[key].total += min(count, limit)
        groups[key].has_more |= count > limit
    return groups


def _fetch(ids: Iterable[Any], *, oldest_first: bool) -> list[Notification]:
    """Return notifications by ids as the database has them."""
    ids = list(ids)
    if not ids:
        return []
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM notifications_notification "
        f"WHERE id IN ({', '.join(['%s'] * len(ids))}) ORDER BY raised {'ASC' if oldest_first else 'DESC'}"
    )
    return read_rows(Notification, sql, ids)

"""Read what the pages of the inbox list: pages of notifications, groups as one row each, counts, and categories.

A group is what the project names one, or what happens on one day with the same category and target, or to the jobs of
one task. It is a column of the notification, and no row of its own: nothing has to be kept up to date.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from notifications.db.adapters import user_to_db
from notifications.db.transactions import connection, database
from notifications.models import Notification
from notifications.streams import listing
from notifications.streams.building import NAMED, UNNAMED
from notifications.streams.listing import COLUMNS, INBOX, Filters, read_rows

#: Notifications on one page of the inbox.
PAGE_SIZE = 25
#: Notifications of each partition in which categories are looked for, and categories that are found at most.
MAX_ROWS_OF_CATEGORIES, MAX_CATEGORIES = 300, 50
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


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxPage:
    """Notifications, newest first.

    ``after``
        Where the next page of older ones starts, None on the last page.
    ``before``
        Where the page of newer ones ends, None on the first page.
    ``is_partial``
        Whether the page is not full, because ``listing.MAX_ROWS_SEARCHED`` notifications were searched for it, or
        ``MAX_SCANS`` times ``MAX_ROWS_SCANNED`` are of groups that other pages show.
    ``groups``
        Groups by the ids of their newest notifications, which stand for all of them.
    """

    rows: list[Notification]
    after: int | None
    before: int | None = None
    is_partial: bool = False
    groups: Mapping[UUID, Group] = field(default_factory=dict)


def group_name(key: str) -> str:
    """Return what the project calls a group, ``""`` if it does not, or by a UUID, which is no name for people."""
    name = key.removeprefix(NAMED) if key.startswith(NAMED) else ""
    return "" if UUID_TEXT.fullmatch(name) else name


def read_inbox_page(
    user: Any, head: int, after: int | None = None, *, before: int | None = None, filters: Filters = INBOX
) -> InboxPage:
    """Return a page of a user's (key) notifications, as they are up to ``head``.

    ``after``
        The notifications were raised below this position: the page after the one that ends there.
    ``before``
        They were raised above this position, and are the oldest ones that were.
    """
    if before is not None:
        found = _read_rows(user, head, above=before, below=head + 1, filters=filters, oldest_first=True)
        if found.end not in (None, head):
            rows = found.rows[::-1]
            after = rows[-1].raised if rows else before + 1
            return _make_page(found, filters, rows=rows, after=after, before=found.end)
        after = None  # The page of the newest notifications, which is full.
    # One bound: of two upper bounds SQLite uses only one, and reads everything above the other.
    below = head + 1 if after is None else min(after, head + 1)
    found = _read_rows(user, head, above=None, below=below, filters=filters)
    newest = found.rows[0].raised if found.rows else below - 1
    before = None if after is None else newest
    return _make_page(found, filters, rows=found.rows, after=found.end, before=before)


def _make_page(found: GroupedRows, filters: Filters, **fields: Any) -> InboxPage:
    # A group may have many notifications, so that a page is not full though nothing was searched.
    is_short = not found.rows if filters.has_groups else len(found.rows) < PAGE_SIZE
    return InboxPage(is_partial=is_short and found.end is not None, groups=found.groups, **fields)


def _read_rows(
    user: Any, head: int, *, above: int | None, below: int, filters: Filters, oldest_first: bool = False
) -> GroupedRows:
    """Return the rows of a page between two positions: the newest, or with ``oldest_first`` the oldest."""
    if filters.has_groups:
        return _read_grouped(user, head, above=above, below=below, filters=filters, oldest_first=oldest_first)
    page = listing.read_page(
        user, PAGE_SIZE, above=above, below=below, filters=filters, oldest_first=oldest_first
    )
    return GroupedRows(rows=page.rows, groups={}, end=page.end)


def count(user: Any, limit: int, *, head: int, filters: Filters) -> int:
    """Return how many notifications of a user (key) a list has up to ``head``, at most ``limit``."""
    selects = filters.select_each("1", "raised < %s", f"LIMIT {limit}")
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT COUNT(*) FROM ({' UNION ALL '.join(selects)}) AS counted",
            [user_to_db(user), head + 1] * len(selects),
        )
        return min(limit, cursor.fetchone()[0])


def read_categories(user: Any, *, below: int, filters: Filters) -> list[str]:
    """Return the categories of the newest notifications of a list, before its narrow filters, in alphabetical order."""
    tail = f"ORDER BY raised DESC LIMIT {MAX_ROWS_OF_CATEGORIES}"
    selects = filters.select_each("category", "raised < %s", tail)
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT category FROM ({' UNION ALL '.join(selects)}) AS newest WHERE category <> '' "
            f"ORDER BY category LIMIT {MAX_CATEGORIES}",
            [user_to_db(user), below] * len(selects),
        )
        return [category for (category,) in cursor.fetchall()]


def _read_grouped(
    user: Any, head: int, *, above: int | None, below: int, filters: Filters, oldest_first: bool = False
) -> GroupedRows:
    """Return the rows of a page. A group is where its newest notification up to ``head`` is.

    There may be fewer rows, even none, before the end of the list, because a group may have many notifications.
    """
    for _ in range(MAX_SCANS):
        found = _read_once(user, head, above, below, filters, oldest_first)
        if found.rows or found.end is None:
            break
        below, above = (below, found.end) if oldest_first else (found.end, above)
    return found


def read_group(user: Any, key: str, *, head: int, filters: Filters) -> tuple[Group, Notification | None]:
    """Return the group with a key, also of fewer notifications than are one row, and the newest of them, if any."""
    group = _count(user, [key], head=head, filters=filters)[key]
    return group, Notification.objects.using(database()).filter(user=user, raised=group.newest).first()


def _read_once(
    user: Any, head: int, above: int | None, below: int, filters: Filters, oldest_first: bool
) -> GroupedRows:
    sql, params = listing.select(
        ("raised", "id", "group_key"),
        user,
        MAX_ROWS_SCANNED,
        above=above,
        below=below,
        filters=filters,
        oldest_first=oldest_first,
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, params)
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
            if len(ids) == PAGE_SIZE:
                break
            ids.append(id)
        end = raised
    else:
        if len(scanned) < MAX_ROWS_SCANNED:
            end = None
    rows = []
    if ids:
        sql = (
            f"SELECT {', '.join(COLUMNS)} FROM notifications_notification "
            f"WHERE id IN ({', '.join(['%s'] * len(ids))}) ORDER BY raised {'ASC' if oldest_first else 'DESC'}"
        )
        rows = read_rows(Notification, sql, ids)
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
    params = [part for key in keys for part in [user_to_db(user), key, head] * len(selects)]
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

"""Groups of notifications, each of which is one row of the inbox and of the bell.

A group is what the project names one, or what happens on one day with the same category and target, or to the jobs of
one task. It is a column of the notification, and no row of its own: nothing has to be kept up to date.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from notifications import serializers
from notifications.db.adapters import user_to_db
from notifications.db.transactions import connection
from notifications.models import Notification
from notifications.streams import icons, listing
from notifications.streams.building import NAMED, UNNAMED
from notifications.streams.listing import COLUMNS, Filters, read_rows

#: An id by which a project names a group. It is no name for people.
UUID_TEXT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Notifications from which on such a group is one row.
MIN_SIZES = {NAMED: 2, UNNAMED: 3}
#: Notifications that one query reads to find rows of a page, queries that find none, and groups on a page at most.
MAX_ROWS_SCANNED, MAX_SCANS, MAX_GROUPS = 500, 10, 30
#: Notifications whose actors are read: of all groups of a page together, and of each at least.
MAX_ACTORS, MIN_ACTORS = 1_000, 10
#: Notifications that are counted of all groups of a page together, and of one of them at least.
MAX_COUNTED, MIN_COUNTED = 1_000, 100


@dataclass(kw_only=True, slots=True)
class Group:
    """The notifications of a group that a list has.

    ``newest``
        The position of the newest of them, and of those of each level in ``newest_by_level``.
    ``worst``
        The newest of the most severe level, None if it is the newest of all.
    ``counts``
        How many of those that were counted have each level.
    ``total``
        How many there are, at least.
    ``people``
        The names of those who have caused them, the last one first; none unless someone has caused the newest.
    ``is_unread``
        Whether any of those is unread.
    ``titles``
        The first and the last of their titles: what both begin with, all do.
    ``has_more``
        Whether there are more than ``total``.
    """

    key: str
    newest: int = 0
    newest_by_level: dict[str, int] = field(default_factory=dict)
    worst: Notification | None = None
    counts: dict[str, int] = field(default_factory=dict)
    total: int = 0
    titles: set[str] = field(default_factory=set)
    people: list[str] = field(default_factory=list)
    is_unread: bool = False
    has_more: bool = False

    @property
    def name(self) -> str:
        """The name that the project has given it, ``""`` if none."""
        return group_name(self.key)

    @property
    def level(self) -> str:
        """The most severe level among them."""
        return next((level for level in ("error", "warning", "success") if level in self.counts), "info")

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
class GroupedPage:
    """A page of a list: its rows, newest first, of which those in ``groups`` stand for all of a group.

    ``after``
        Where the next page of older ones starts, None on the last page.
    ``before``
        Where the page of newer ones ends, None on the first page.
    ``is_partial``
        Whether the page is not full, because ``listing.MAX_ROWS_SEARCHED`` notifications were searched for it, or
        ``MAX_SCANS`` scans have found groups that other pages show.
    """

    rows: list[Notification]
    groups: Mapping[UUID, Group]
    after: int | None
    before: int | None
    is_partial: bool


def group_name(key: str) -> str:
    """Return what the project calls a group, ``""`` if it does not, or by a UUID, which is no name for people."""
    name = key.removeprefix(NAMED) if key.startswith(NAMED) else ""
    return "" if UUID_TEXT.fullmatch(name) else name


def read_list_page(
    user: Any, size: int, *, head: int, after: int | None, before: int | None, filters: Filters
) -> GroupedPage:
    """Return a page of a user's (key) notifications, as they are up to ``head``. Groups are one row where lists do so.

    ``after``
        The notifications were raised below this position: the page after the one that ends there.
    ``before``
        They were raised above this position, and are the oldest ones that were.
    """
    read = read_grouped if filters.has_groups else _read_ungrouped

    def make_page(
        found: GroupedRows, rows: list[Notification], after: int | None, before: int | None
    ) -> GroupedPage:
        # A group may have many notifications, so that a page is not full though nothing was searched.
        is_short = not rows if filters.has_groups else len(rows) < size
        is_partial = is_short and found.end is not None
        return GroupedPage(rows=rows, groups=found.groups, after=after, before=before, is_partial=is_partial)

    if before is not None:
        found = read(user, size, head=head, above=before, below=head + 1, filters=filters, oldest_first=True)
        if found.end not in (None, head):
            rows = found.rows[::-1]
            return make_page(found, rows, rows[-1].raised if rows else before + 1, found.end)
        after = None  # The page of the newest notifications, which is full.
    # One bound: of two upper bounds SQLite uses only one, and reads everything above the other.
    below = head + 1 if after is None else min(after, head + 1)
    found = read(user, size, head=head, below=below, filters=filters)
    newest = found.rows[0].raised if found.rows else below - 1
    return make_page(found, found.rows, found.end, None if after is None else newest)


def _read_ungrouped(user: Any, size: int, *, head: int, **bounds: Any) -> GroupedRows:
    page = listing.read_page(user, size, **bounds)
    return GroupedRows(rows=page.rows, groups={}, end=page.end)


def read_grouped(
    user: Any,
    size: int,
    *,
    head: int,
    above: int | None = None,
    below: int,
    filters: Filters,
    oldest_first: bool = False,
) -> GroupedRows:
    """Return a page of ``size`` rows of a user (key) with ``above < raised < below``.

    A group is where its newest notification up to ``head`` is.

    There may be fewer rows, even none, before the end of the list, because a group may have many notifications.
    """
    for _ in range(MAX_SCANS):
        found = _read_once(user, size, head, above, below, filters, oldest_first)
        if found.rows or found.end is None:
            break
        below, above = (below, found.end) if oldest_first else (found.end, above)
    return found


def read_group(user: Any, key: str, *, head: int, filters: Filters) -> tuple[Group, Notification | None]:
    """Return the group with a key, also of fewer notifications than are one row, and the newest of them, if any."""
    group = _count(user, [key], head=head, filters=filters)[key]
    newest = next(iter(_read_at(user, [group.newest], filters)), None)
    if newest:
        _read_worst(user, [group], filters)
        _read_people(user, [(group, newest)], head=head, filters=filters)
    return group, newest


def _read_once(
    user: Any, size: int, head: int, above: int | None, below: int, filters: Filters, oldest_first: bool
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
            if len(ids) == size:
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
    shown = {row.pk: ones[row.raised] for row in rows if row.raised in ones}
    _read_worst(user, shown.values(), filters)
    _read_people(user, [(shown[row.pk], row) for row in rows if row.pk in shown], head=head, filters=filters)
    return GroupedRows(rows=rows, groups=shown, end=end)


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
            group.newest_by_level[level] = max(group.newest_by_level.get(level, 0), newest)
            group.titles.update(titles)
            found[key, number] += count
    for (key, _), count in found.items():
        groups[key].total += min(count, limit)
        groups[key].has_more |= count > limit
    return groups


def _read_worst(user: Any, groups: Iterable[Group], filters: Filters) -> None:
    """Set ``worst`` of groups."""
    found = {group.newest_by_level[group.level]: group for group in groups}
    raised = [position for position, group in found.items() if position != group.newest]
    if raised:
        for row in _read_at(user, raised, filters):
            found[row.raised].worst = row


def _read_at(user: Any, raised: Sequence[int], filters: Filters) -> list[Notification]:
    """Return the notifications that were raised at these positions, by the indexes of the partitions."""
    marks = ", ".join(["%s"] * len(raised))
    selects = filters.select_each(", ".join(COLUMNS), f"raised IN ({marks})", "")
    params = [user_to_db(user), *raised] * len(selects)
    return read_rows(Notification, " UNION ALL ".join(selects), params)


def _read_people(
    user: Any, shown: Sequence[tuple[Group, Notification]], *, head: int, filters: Filters
) -> None:
    """Set ``people`` of groups, which come with their newest notifications."""
    groups = {group.key: group for group, newest in shown if read_actor_name(newest.data)}
    if not groups:
        return
    tail = f"ORDER BY raised DESC LIMIT {max(MIN_ACTORS, MAX_ACTORS // len(groups))}"
    selects = filters.select_each("group_key, raised, data", "group_key = %s AND raised <= %s", tail)
    params = [part for key in groups for part in [user_to_db(user), key, head] * len(selects)]
    with connection().cursor() as cursor:
        cursor.execute(f"{' UNION ALL '.join(selects * len(groups))} ORDER BY raised DESC", params)
        for key, _, data in cursor.fetchall():
            name = read_actor_name(data)
            if name and name not in groups[key].people:
                groups[key].people.append(name)


def read_actor_name(data: str) -> str:
    """Return the name of who has caused a notification with this data, ``""`` if it names nobody."""
    if '"actor"' not in data:
        return ""
    try:
        name, _ = icons.read_actor(serializers.decode_object(data).get("actor"))
    except (TypeError, ValueError, RecursionError):
        return ""
    return name.strip() if isinstance(name, str) else ""

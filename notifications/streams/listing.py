"""Lists of notifications.

The notifications of a user are in four partitions: unread or read, archived or not. Each partition has an index, and
each notification is in one partition, so a new one costs one index entry instead of one for each way to list it. Only
open questions are in an index of their own, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from django.db.models import Model, Q

from notifications import streams
from notifications.db.adapters import user_to_db
from notifications.db.transactions import connection, dialect
from notifications.models import Notification
from notifications.streams.positions import StreamPosition, read_position_with

M = TypeVar("M", bound=Model)

#: The columns that an item or a row of the inbox shows.
COLUMNS = (
    "id",
    "user_id",
    "seq",
    "raised",
    "level",
    "category",
    "title",
    "body",
    "url",
    "job",
    "data",
    "created_at",
    "read_at",
    "archived_at",
    "open_question",
    "broadcast",
    "snoozed_until",
    "returned_at",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which notifications a list shows.

    ``archived``, ``snoozed``
        The archived ones, or those that are not. Of the archived ones those that are snoozed or the others; None: both.
    ``read``
        The read or the unread ones; None: both.
    ``questions``
        Only questions of jobs that are open. They are unread and not archived.
    ``group``
        Those of this group; None: one row for each group.
    ``categories``, ``is_except``, ``level``
        Those of these categories, or of all but these, and of this level; ``()`` and ``""``: of all.
    ``words``
        Those whose title or body contains each of these words, in upper or lower case.
    """

    archived: bool = False
    snoozed: bool | None = None
    read: bool | None = None
    questions: bool = False
    group: str | None = None
    categories: tuple[str, ...] = ()
    is_except: bool = False
    level: str = ""
    words: tuple[str, ...] = ()

    @property
    def is_narrow(self) -> bool:
        """Whether rows must be read that the list does not show, because no index finds those that it shows."""
        return bool(self.categories or self.level or self.words)

    @property
    def has_groups(self) -> bool:
        """Whether a page shows each group as one row, as it does without other filters in the inbox."""
        return not (self.archived or self.questions or self.group is not None or self.is_narrow)

    def partitions(self) -> list[str]:
        """Return the SQL conditions of the partitions in which the notifications are."""
        if self.questions:
            return ["open_question IS NOT NULL AND archived_at IS NULL"]
        if self.snoozed:
            return ["snoozed_until IS NOT NULL AND archived_at IS NOT NULL"]
        others = "" if self.snoozed is None else " AND snoozed_until IS NULL"
        return [
            f"read_at IS {'NOT ' * is_read}NULL AND archived_at IS {'NOT ' * self.archived}NULL{others}"
            for is_read in ((False, True) if self.read is None else (self.read,))
        ]

    def select_each(self, columns: str, condition: str, tail: str) -> list[str]:
        """Return a statement for each partition, which its index answers, to be joined by ``UNION ALL``.

        The first parameter of each is the user, as the database has the key. ``tail`` has the limit.
        """
        return [
            f"SELECT * FROM (SELECT {columns} FROM notifications_notification "
            f"WHERE user_id = %s AND {condition} AND {partition} {tail}) AS part"
            for partition in self.partitions()
        ]

    def condition(self) -> tuple[str, list[Any]]:
        """Return the other conditions as SQL that begins with `` AND``, with their parameters."""
        sql, params = "", []
        if self.group is not None:
            sql, params = " AND group_key = %s", [self.group]
        if self.categories:
            names = ", ".join(["%s"] * len(self.categories))
            sql = f"{sql} AND category {'NOT IN' if self.is_except else 'IN'} ({names})"
            params = [*params, *self.categories]
        if self.level:
            sql, params = f"{sql} AND level = %s", [*params, self.level]
        title, body = dialect().contains("title"), dialect().contains("body")
        for word in self.words:
            pattern = f"%{connection().ops.prep_for_like_query(word)}%"
            sql, params = f"{sql} AND ({title} OR {body})", [*params, pattern, pattern]
        return sql, params


INBOX = Filters()
#: Notifications that are read to find those of one page that narrow filters select.
MAX_ROWS_SEARCHED = 5_000


def read_numbered_position(user: Any) -> StreamPosition:
    """Return the position of the stream of a user (key), with all that is committed. Read it before the rows of a page.

    It is one query if all rows have their number. Else they are numbered first, in transactions of the app's own.
    """
    return read_numbered_position_with(user, (), ())[0]


def read_numbered_position_with(
    user: Any, columns: Sequence[str], params: Sequence[Any]
) -> tuple[StreamPosition, Sequence[Any]]:
    """Return what ``read_numbered_position()`` does, and other columns of that moment.

    ``columns``, ``params``
        SQL, which may name columns of the stream, with its parameters.
    """
    pending = (
        "EXISTS (SELECT 1 FROM notifications_notification WHERE user_id = %s AND seq IS NULL) "
        "OR EXISTS (SELECT 1 FROM notifications_job WHERE user_id = %s AND seq IS NULL)"
    )
    values = [*[user_to_db(user)] * 2, *params]
    position, (is_pending, *found) = read_position_with(user, [pending, *columns], values)
    if is_pending:
        streams.number([user])
        position, (_, *found) = read_position_with(user, [pending, *columns], values)
    return position, found


@dataclass(frozen=True, kw_only=True, slots=True)
class ListPage:
    """Notifications in the order in which they were read.

    ``end``
        The position of the last one that was read or searched, None if it is the last of the list.
    """

    rows: list[Notification]
    end: int | None


def read_rows(model: type[M], sql: str, params: Sequence[Any]) -> list[M]:
    """Return the rows of a query as instances of the model."""
    return list(model._default_manager.using(connection().alias).raw(sql, params))


def read_page(
    user: Any,
    size: int,
    *,
    below: int,
    above: int | None = None,
    filters: Filters = INBOX,
    oldest_first: bool = False,
) -> ListPage:
    """Return a page of ``size`` notifications of a user (key) with ``above < raised < below``.

    They are the newest, or with ``oldest_first`` the oldest. Narrow filters may select fewer than ``size`` of those
    that are searched, even none, before the end of the list.
    """
    end = None
    if filters.is_narrow:
        end = find_window(
            user,
            MAX_ROWS_SEARCHED,
            above=above or 0,
            below=below,
            filters=filters,
            oldest_first=oldest_first,
        )
    if end is not None:
        below, above = (end + 1, above) if oldest_first else (below, end - 1)
    rows = read_between(user, size + 1, above=above, below=below, filters=filters, oldest_first=oldest_first)
    return ListPage(rows=rows[:size], end=rows[size - 1].raised if len(rows) > size else end)


def read_between(
    user: Any, limit: int, *, above: int | None, below: int, filters: Filters, oldest_first: bool = False
) -> list[Notification]:
    """Return at most ``limit`` notifications of a user (key) with ``above < raised < below``.

    They are the newest, or with ``oldest_first`` the oldest, and in this order.
    """
    sql, params = select(
        COLUMNS, user, limit, above=above, below=below, filters=filters, oldest_first=oldest_first
    )
    return read_rows(Notification, sql, params)


def select(
    columns: Sequence[str],
    user: Any,
    limit: int,
    *,
    above: int | None,
    below: int,
    filters: Filters,
    oldest_first: bool = False,
) -> tuple[str, list[Any]]:
    """Return the statement that reads columns, ``raised`` among them, of what ``read_between`` returns.

    It is one for all partitions, so that a notification that is marked meanwhile is listed exactly once.
    """
    order = "ASC" if oldest_first else "DESC"
    condition, values = filters.condition()
    lower, bounds = ("", [below]) if above is None else (" AND raised > %s", [below, above])
    tail = f"ORDER BY raised {order} LIMIT {limit}"
    selects = filters.select_each(", ".join(columns), f"raised < %s{lower}{condition}", tail)
    sql = f"{' UNION ALL '.join(selects)} {tail}"
    return sql, [user_to_db(user), *bounds, *values] * len(selects)


def find_window(
    user: Any, size: int, *, above: int, below: int, filters: Filters, oldest_first: bool = False
) -> int | None:
    """Return the ``raised`` of the last of the ``size`` newest notifications of a list, before its narrow filters.

    With ``oldest_first`` of the oldest ones. None if there are fewer.
    """
    order = "ASC" if oldest_first else "DESC"
    tail = f"ORDER BY raised {order} LIMIT {size}"
    selects = filters.select_each("raised", "raised < %s AND raised > %s", tail)
    with connection().cursor() as cursor:
        cursor.execute(
            f"{' UNION ALL '.join(selects)} ORDER BY raised {order} LIMIT 1 OFFSET {size - 1}",
            [user_to_db(user), below, above] * len(selects),
        )
        row = cursor.fetchone()
    return None if row is None else row[0]


def count(user: Any, limit: int, *, head: int, filters: Filters) -> tuple[int, bool]:
    """Return how many notifications of a user (key) up to ``head`` filters select, at most ``limit``.

    The second value is whether all of them were searched: narrow filters look at ``MAX_ROWS_SEARCHED`` only.
    """
    below, window = head + 1, None
    if filters.is_narrow:
        window = find_window(user, MAX_ROWS_SEARCHED, above=0, below=below, filters=filters)
    above = None if window is None else window - 1
    sql, params = select(["raised"], user, limit, above=above, below=below, filters=filters)
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM ({sql}) AS counted", params)
        return cursor.fetchone()[0], window is None


def find_categories(user: Any, *, up_to: int, filters: Filters) -> set[str]:
    """Return all categories of a list up to a position, with ``""`` where notifications have none."""
    selects = filters.select_each("category", "raised <= %s", "")
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT category FROM ({' UNION ALL '.join(selects)}) AS listed",
            [user_to_db(user), up_to] * len(selects),
        )
        return {category for (category,) in cursor.fetchall()}


def partitions(*, read: bool | None = None, archived: bool | None = None) -> list[Q]:
    """Return the conditions of the partitions in these states (None: in either).

    A query for each of them uses the index of that partition; one query for several of them would use none.
    """
    return [
        Q(read_at__isnull=not is_read, archived_at__isnull=not is_archived)
        for is_read, is_archived in product((False, True), repeat=2)
        if read in (None, is_read) and archived in (None, is_archived)
    ]

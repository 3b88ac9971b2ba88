"""The statement that reads streams: positions, notifications after a cursor, active jobs, all of one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.db import models

from notifications.db.transactions import connection
from notifications.db.user_keys import to_db
from notifications.models import Job, Notification

M = TypeVar("M", bound=models.Model)

#: A client whose cursor is further behind starts from a snapshot.
MAX_ROWS_BEHIND = 1_000
#: Active jobs that a client is shown at most.
MAX_ACTIVE_JOBS = 100


class Position(NamedTuple):
    """The position of a stream.

    ``head`` is its last seq, ``floor`` the seq up to which rows were pruned, ``unread`` and ``unseen`` the counts at
    that head. ``seen`` is the greatest position up to which the user was shown what was raised. ``guard`` rises when
    sessions of the user may have ended.
    """

    head: int = 0
    floor: int = 0
    unread: int = 0
    seen: int = 0
    unseen: int = 0
    guard: int = 0

    def follows(self, cursor: int) -> bool:
        """Return whether a client at ``cursor`` can be sent what it missed; otherwise it starts from a snapshot."""
        return self.floor <= cursor <= self.head and self.head - cursor <= MAX_ROWS_BEHIND


#: The position of a user without a stream: not created yet, or purged. Its guard differs from that of any stream,
#: because sessions may have ended with the purge.
NO_STREAM = Position(guard=-1)
POSITION_COLUMNS = ", ".join(Position._fields)


class NotificationRow(NamedTuple):
    """The columns of a notification that its item shows. It takes a tenth of the time of a model."""

    id: UUID
    seq: int
    raised: int
    level: str
    category: str
    title: str
    body: str
    url: str
    job: UUID | None
    data: str
    created_at: datetime
    returned_at: datetime | None
    read_at: datetime | None
    archived_at: datetime | None

    @property
    def raised_at(self) -> datetime:
        """When it was raised, as ``Notification.raised_at``."""
        return self.returned_at or self.created_at


Row = Notification | NotificationRow | Job


@dataclass(kw_only=True, slots=True)
class StreamRead:
    """A stream at one moment: its position, and the notifications after a cursor by seq.

    ``versions`` are those of the active jobs of the ``MAX_ACTIVE_JOBS`` queued last, newest first, by id, as text for
    ``read_active_jobs``.
    """

    position: Position = NO_STREAM
    versions: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def read_rows(model: type[M], sql: str, params: Sequence[Any]) -> list[M]:
    """Return the rows of a query as instances of the model."""
    return list(model._default_manager.using(connection().alias).raw(sql, params))


def as_position(columns: Sequence[Any]) -> Position:
    """Return the position in the ``POSITION_COLUMNS`` of a stream, or of none if they are NULL."""
    return NO_STREAM if columns[0] is None else Position._make(columns)


def read_streams(cursors: Mapping[Any, int | None], max_rows: int) -> dict[Any, StreamRead]:
    """Return what is read of the streams of these users (keys), in one query.

    Notifications are those after the cursor of the user if it is at most ``max_rows`` behind; none for None.
    """
    db = connection()
    users = {to_db(user): user for user in cursors}
    found = {user: StreamRead() for user in cursors}
    converters = _row_converters(db)
    size = len(NotificationRow._fields)
    with db.cursor() as cursor:
        cursor.execute(
            _streams_sql(db.vendor, len(users)),
            [*(value for key, user in users.items() for value in (key, cursors[user])), max_rows],
        )
        for key, *columns, versions in cursor.fetchall():
            state = found[users[key]]
            if columns[0] is None:
                state.position, state.versions = as_position(columns[size:]), _parse_versions(versions)
                continue
            row = columns[:size]
            for index, convert, expression in converters:
                row[index] = convert(row[index], expression, db)
            state.rows.append(NotificationRow._make(row))
    for state in found.values():
        state.rows.sort(key=attrgetter("seq"))
    return found


@cache
def _streams_sql(vendor: str, number: int) -> str:
    """Return the statement of ``read_streams`` for a number of users: a row for each notification and each stream."""
    concat = {"sqlite": "group_concat", "postgresql": "string_agg"}[vendor]
    streams = join_by_index("notifications_stream AS s", "s.user_id = user_key", vendor, is_outer=True)
    condition = "n.user_id = user_key AND n.seq > low AND n.seq <= head AND head - low <= %s"
    notifications = join_by_index("notifications_notification AS n", condition, vendor)
    columns = NotificationRow._fields
    return (
        f"WITH ranges (user_key, low) AS (VALUES {', '.join(['(%s, CAST(%s AS bigint))'] * number)}), "
        f"positions AS MATERIALIZED (SELECT user_key, low, {POSITION_COLUMNS} FROM ranges {streams}) "
        f"SELECT user_key, {', '.join(f'n.{column}' for column in columns)}, "
        f"{', '.join(['NULL'] * len(Position._fields))}, NULL FROM positions {notifications} "
        f"UNION ALL SELECT user_key, {', '.join(['NULL'] * len(columns))}, {POSITION_COLUMNS}, "
        f"(SELECT {concat}(CAST(id AS text) || ':' || version, ',') FROM ("
        "SELECT id, version FROM notifications_job WHERE user_id = user_key AND seq = 0 "
        f"ORDER BY queued_at DESC, id DESC LIMIT {MAX_ACTIVE_JOBS}) AS active) FROM positions"
    )


def join_by_index(table: str, condition: str, vendor: str, *, is_outer: bool = False) -> str:
    """Return SQL that joins a table, with its alias, to the rows before it, which finds its rows by an index for each.

    SQLite joins in the order of the text. PostgreSQL reads the whole table instead from about 50 rows before it on,
    unless ``OFFSET 0`` keeps the subquery as it is.
    """
    if vendor == "sqlite":
        return f"{'LEFT' if is_outer else 'CROSS'} JOIN {table} ON {condition}"
    alias = table.rsplit(maxsplit=1)[-1]
    kind = "LEFT" if is_outer else "INNER"
    return f"{kind} JOIN LATERAL (SELECT * FROM {table} WHERE {condition} OFFSET 0) AS {alias} ON TRUE"


def _row_converters(db: Any) -> list[tuple[int, Callable[..., Any], Any]]:
    """Return what converts the columns of a ``NotificationRow``: index, function and its second argument."""
    found = []
    for index, name in enumerate(NotificationRow._fields):
        expression = Notification._meta.get_field(name).cached_col
        converters = [*db.ops.get_db_converters(expression), *expression.get_db_converters(db)]
        found += [(index, convert, expression) for convert in converters]
    return found


def _parse_versions(text: str | None) -> dict[str, int]:
    pairs = (pair.split(":") for pair in text.split(",")) if text else ()
    return {id: int(version) for id, version in pairs}

"""Read the changes of streams: what follows a cursor, snapshots, active jobs.

One statement reads positions, notifications after a cursor and the versions of active jobs, all of one moment. Finished
jobs are read after it, if notifications alone do not account for every seq up to the head. A row that is still missing
then has moved past the head, where the next read finds it, or was pruned: then the floor, read last, turns the answer
into a reset. So none is skipped. This module neither locks nor writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from notifications.db.adapters import converters, user_to_db
from notifications.db.dialects import Dialect, dialect_of
from notifications.db.transactions import chunks, connection, dialect
from notifications.db.unavailable import DAMAGE, is_damage
from notifications.models import Job, Notification
from notifications.streams import listing
from notifications.streams.listing import read_rows
from notifications.streams.positions import (
    NO_STREAM,
    POSITION_COLUMNS,
    Position,
    as_position,
    positions,
)

#: Rows that one read returns at most, of both kinds together.
MAX_ROWS_PER_READ = 200
#: Notifications in a snapshot.
SNAPSHOT_ROWS = 50
#: Snapshots that one query reads at most, which bounds their memory.
MAX_SNAPSHOTS_PER_QUERY = 20
#: Ids in one query at most.
MAX_IDS_PER_QUERY = 500
#: Users whose streams one query reads at most.
MAX_RANGES_PER_QUERY = 200
#: Active jobs that a client is shown at most.
MAX_ACTIVE_JOBS = 100

#: The columns that an item shows, without arguments and results of jobs, which can be large.
JOB_COLUMNS = (
    "id",
    "user_id",
    "seq",
    "version",
    "task_path",
    "state",
    "executor",
    "attempt",
    "max_attempts",
    "progress_current",
    "progress_total",
    "progress_message",
    "error",
    "title",
    "url",
    "created_at",
    "started_at",
    "finished_at",
    "run_after",
    "expires_at",
    "waiting",
)
ITEM_COLUMNS: tuple[tuple[type[Notification] | type[Job], tuple[str, ...]], ...] = (
    (Notification, listing.COLUMNS),
    (Job, JOB_COLUMNS),
)


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


@dataclass(kw_only=True, slots=True)
class MissedChanges:
    """The changes after a cursor: ``rows`` by seq up to ``position.head``, or up to the last of them when ``cut``.

    With ``reset`` the cursor cannot be followed, and there are no rows. ``versions`` are those of the active jobs at
    that head, as in ``StreamRead``.
    """

    position: Position
    versions: dict[str, int]
    rows: list[Row] = field(default_factory=list)
    cut: bool = False
    reset: bool = False


def read_missed(cursors: Mapping[Any, Iterable[int | None]]) -> dict[tuple[Any, int | None], MissedChanges]:
    """Return the changes after each cursor of each user: ``read_missed({user: [41, 44]})[user, 41]``.

    For None only the position and the versions of active jobs are returned. All cursors of a user are read at one
    moment. A query is for up to ``MAX_RANGES_PER_QUERY`` users; another one reads jobs that have finished, and what
    users with several cursors have missed.
    """
    found: dict[tuple[Any, int | None], MissedChanges] = {}
    for chunk in chunks(cursors.items(), MAX_RANGES_PER_QUERY):
        found.update(_read_missed({user: list(users_cursors) for user, users_cursors in chunk}))
    return found


def _read_missed(cursors: dict[Any, list[int | None]]) -> dict[tuple[Any, int | None], MissedChanges]:
    single = {user: each[0] if len(each) == 1 else None for user, each in cursors.items()}
    states = read_streams(single)
    found: dict[tuple[Any, int | None], MissedChanges] = {}
    incomplete: list[tuple[Any, int, MissedChanges]] = []
    #: The least near cursor, of users whose notifications are read, and of those where they are not.
    lows: dict[bool, dict[Any, int]] = {True: {}, False: {}}
    for user, users_cursors in cursors.items():
        state = states[user]
        for cursor in users_cursors:
            missed = MissedChanges(position=state.position, versions=state.versions, rows=state.rows)
            found[user, cursor] = missed
            if cursor is None or not state.position.follows(cursor):
                missed.rows, missed.reset = [], True
            elif len(state.rows) < (behind := state.position.head - cursor):
                incomplete.append((user, cursor, missed))
                if behind <= MAX_ROWS_PER_READ:
                    users_lows = lows[single[user] is not None]
                    users_lows[user] = min(cursor, users_lows.get(user, cursor))
    if not incomplete:
        return found
    heads = {user: missed.position.head for user, _, missed in incomplete}
    near = _read_near(lows[True], heads, ITEM_COLUMNS[1:]) | _read_near(lows[False], heads, ITEM_COLUMNS)
    for user, cursor, missed in incomplete:
        if missed.position.head - cursor <= MAX_ROWS_PER_READ:
            rows = [*missed.rows, *(row for row in near[user] if row.seq > cursor)]
            missed.rows = sorted(rows, key=attrgetter("seq"))
        else:
            rows = _read_far(user, cursor, missed.position.head)
            missed.rows, missed.cut = rows[:MAX_ROWS_PER_READ], len(rows) > MAX_ROWS_PER_READ
    incomplete = [each for each in incomplete if len(each[2].rows) < each[2].position.head - each[1]]
    floors = positions(user for user, _, _ in incomplete)
    for user, cursor, missed in incomplete:
        if floors[user].floor > cursor:
            missed.rows, missed.cut, missed.reset = [], False, True
    return found


def read_snapshots(heads: Mapping[Any, int]) -> dict[Any, list[Notification]]:
    """Return the newest ``SNAPSHOT_ROWS`` notifications of users that are not archived, by ``raised``, by user (key).

    ``heads``
        The users, and up to which position to read. Number them first (``streams.number_if_needed``), so that no
        committed row is missing. One query reads those of 20 users.
    """
    found: dict[Any, list[Notification]] = {user: [] for user in heads}
    # Read and unread rows have an index each, of which the last entries are read.
    of_one_user = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {', '.join(listing.COLUMNS)} FROM notifications_notification "
        f"WHERE user_id = %s AND raised <= %s "
        f"AND archived_at IS NULL AND read_at IS {null} ORDER BY raised DESC LIMIT {SNAPSHOT_ROWS}) AS part"
        for null in ("NULL", "NOT NULL")
    )
    for chunk in chunks((item for item in heads.items() if item[1]), MAX_SNAPSHOTS_PER_QUERY):
        values = [value for user, head in chunk for value in (user_to_db(user), head) * 2]
        sql = " UNION ALL ".join([of_one_user] * len(chunk))
        for row in read_rows(Notification, sql, values):
            found[row.user_id].append(row)
    for rows in found.values():
        rows.sort(key=attrgetter("raised"))
        del rows[:-SNAPSHOT_ROWS]
    return found


def read_active_jobs(ids: Iterable[str]) -> dict[str, Job]:
    """Return those of these jobs that are still active, by the ids that were given, as in ``MissedChanges``."""
    found = {}
    columns = ", ".join(JOB_COLUMNS)
    for chunk in chunks(ids, MAX_IDS_PER_QUERY):
        marks = ", ".join(["%s"] * len(chunk))
        sql = f"SELECT {columns}, CAST(id AS text) AS raw_id FROM notifications_job WHERE id IN ({marks}) AND seq = 0"
        found.update({row.raw_id: row for row in read_rows(Job, sql, chunk)})  # type: ignore[attr-defined]
    return found


def _read_near(
    lows: Mapping[Any, int], heads: Mapping[Any, int], kinds: Iterable[tuple[type[Any], Sequence[str]]]
) -> dict[Any, list[Row]]:
    """Return the rows of these kinds of many users, each after their own cursor.

    A cursor is at most ``MAX_ROWS_PER_READ`` behind, and each row takes one seq, so there are at most as many rows.
    """
    found: dict[Any, list[Row]] = {user: [] for user in lows}
    values = ", ".join(["(%s, %s, %s)"] * len(lows))
    ranges = [part for user, low in lows.items() for part in (user_to_db(user), low, heads[user])]
    condition = "r.user_id = ranges.user_key AND r.seq > ranges.low AND r.seq <= ranges.high"
    for model, columns in kinds if lows else ():
        rows = dialect().join_by_index(f"{model._meta.db_table} AS r", condition)
        sql = (
            f"WITH ranges (user_key, low, high) AS (VALUES {values}) "
            f"SELECT {', '.join(f'r.{column}' for column in columns)} FROM ranges {rows}"
        )
        for row in read_rows(model, sql, ranges):
            found[row.user_id].append(row)
    return found


def _read_far(user: Any, cursor: int, head: int) -> list[Row]:
    found: list[Row] = []
    for model, columns in ITEM_COLUMNS:
        sql = (
            f"SELECT {', '.join(columns)} FROM {model._meta.db_table} WHERE user_id = %s AND seq > %s AND seq <= %s "
            f"ORDER BY seq LIMIT {MAX_ROWS_PER_READ + 1}"
        )
        found += read_rows(model, sql, [user_to_db(user), cursor, head])
    return sorted(found, key=attrgetter("seq"))[: MAX_ROWS_PER_READ + 1]


def read_streams(cursors: Mapping[Any, int | None]) -> dict[Any, StreamRead]:
    """Return what is read of the streams of these users (keys), in one query.

    Notifications are those after the cursor of the user if it is at most ``MAX_ROWS_PER_READ`` behind; none for None.
    """
    db = connection()
    users = {user_to_db(user): user for user in cursors}
    found = {user: StreamRead() for user in cursors}
    converting = converters(Notification, db, NotificationRow._fields)
    size = len(NotificationRow._fields)
    with db.cursor() as cursor:
        cursor.execute(
            _streams_sql(dialect_of(db), len(users)),
            [*(value for key, user in users.items() for value in (key, cursors[user])), MAX_ROWS_PER_READ],
        )
        for key, *columns, versions in cursor.fetchall():
            state = found[users[key]]
            if columns[0] is None:
                state.position = as_position(columns[size:])
                pairs = [pair.split(":") for pair in versions.split(",")] if versions else []
                state.versions = {id: int(version) for id, version in pairs}
                continue
            row = columns[:size]
            for at, convert, column, takes_none in converting:
                if takes_none or row[at] is not None:
                    row[at] = convert(row[at], column, db)
            state.rows.append(NotificationRow._make(row))
    for state in found.values():
        state.rows.sort(key=attrgetter("seq"))
    return found


@cache
def _streams_sql(dialect: Dialect, number: int) -> str:
    """Return the statement of ``read_streams`` for a number of users: a row for each notification and each stream."""
    versions = dialect.join_texts("CAST(id AS text) || ':' || version")
    streams = dialect.join_by_index("notifications_stream AS s", "s.user_id = user_key", is_outer=True)
    condition = "n.user_id = user_key AND n.seq > low AND n.seq <= head AND head - low <= %s"
    notifications = dialect.join_by_index("notifications_notification AS n", condition)
    columns = NotificationRow._fields
    return (
        f"WITH ranges (user_key, low) AS (VALUES {', '.join(['(%s, CAST(%s AS bigint))'] * number)}), "
        f"positions AS MATERIALIZED (SELECT user_key, low, {POSITION_COLUMNS} FROM ranges {streams}) "
        f"SELECT user_key, {', '.join(f'n.{column}' for column in columns)}, "
        f"{', '.join(['NULL'] * len(Position._fields))}, NULL FROM positions {notifications} "
        f"UNION ALL SELECT user_key, {', '.join(['NULL'] * len(columns))}, {POSITION_COLUMNS}, "
        f"(SELECT {versions} FROM ("
        "SELECT id, version FROM notifications_job WHERE user_id = user_key AND seq = 0 "
        f"ORDER BY queued_at DESC, id DESC LIMIT {MAX_ACTIVE_JOBS}) AS active) FROM positions"
    )


def find_unreadable_rows(user: Any) -> list[str]:
    """Return the names of the notifications and jobs of a user that cannot be read, among those that changed last.

    Another program has stored a value in them that Python does not have.
    """
    found = []
    for model, columns in ITEM_COLUMNS:
        rows: Any = model._default_manager.using(connection().alias).filter(user=user)
        for id in list(rows.order_by("-seq").values_list("pk", flat=True)[:MAX_ROWS_PER_READ]):
            try:
                rows.values_list(*columns).get(pk=id)
            except DAMAGE as exc:
                if not is_damage(exc):
                    raise
                found.append(f"{model._meta.verbose_name} {id}")
    return found

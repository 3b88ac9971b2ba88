"""Read streams: positions, changes after a cursor, snapshots, active jobs.

The head is read first, then the rows up to it, then the floor again. So a row that changes meanwhile is found by the
next read, and one that is pruned meanwhile turns the answer into a reset; none is skipped. This module neither locks
nor writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from operator import attrgetter
from typing import Any

from django.db import models

from notifications.db.damaged_rows import read_rows
from notifications.db.transactions import connection
from notifications.db.user_keys import to_db
from notifications.models import Job, Notification, Stream
from notifications.streams import epochs, listing

#: Rows that one read returns at most, of both kinds together.
MAX_ROWS_PER_READ = 200
#: A client whose cursor is further behind starts from a snapshot.
MAX_ROWS_BEHIND = 1_000
#: Notifications in a snapshot.
SNAPSHOT_ROWS = 50
#: Snapshots that one query reads at most, which bounds their memory.
MAX_SNAPSHOTS_PER_QUERY = 20
#: Active jobs that a client is shown at most.
MAX_ACTIVE_JOBS = 100
#: Users or ids in one query at most.
MAX_KEYS_PER_QUERY = 500
#: Ranges that one query of ``_read_near`` reads at most.
MAX_RANGES_PER_QUERY = 200

#: The columns that an item shows, without arguments and results of jobs, which can be large.
JOB_COLUMNS = (
    *("id", "user_id", "seq", "version", "task_path", "state", "lane", "attempt", "max_attempts"),
    *("progress_current", "progress_total", "progress_message", "error", "title", "url"),
    *("created_at", "started_at", "finished_at", "run_after", "waiting"),
)


ITEM_COLUMNS: tuple[tuple[type[Notification] | type[Job], tuple[str, ...]], ...] = (
    (Notification, listing.COLUMNS),
    (Job, JOB_COLUMNS),
)


#: Open questions of a user are counted up to this number.
MAX_QUESTIONS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class MissedChanges:
    """The changes after a cursor: ``rows`` by seq up to ``position.head``, or up to the last of them when ``cut``.

    With ``reset`` the cursor cannot be followed, and there are no rows.
    """

    position: Position
    rows: list[Notification | Job]
    cut: bool = False
    reset: bool = False


def position(user: Any) -> Position:
    """Return the position of the stream of one user (key), in one query."""
    return positions([user])[user]


def epoch_and_position(user: Any) -> tuple[str, Position]:
    """Return the epoch and the position of the stream of one user (key), of one moment, in one query."""
    epoch, position, _ = _read_epoch_and_position(user, "0", [])
    return epoch, position


def epoch_position_and_questions(user: Any) -> tuple[str, Position, int]:
    """Return the same, and how many questions of the user are open, at most ``MAX_QUESTIONS``."""
    questions = (
        "(SELECT COUNT(*) FROM (SELECT 1 FROM notifications_notification WHERE user_id = %s "
        f"AND open_question IS NOT NULL AND archived_at IS NULL LIMIT {MAX_QUESTIONS}) AS questions)"
    )
    return _read_epoch_and_position(user, questions, [to_db(user)])


def _read_epoch_and_position(user: Any, column: str, params: list[Any]) -> tuple[str, Position, int]:
    names = [field.name for field in fields(Position)]
    sql = (
        f"SELECT {column}, {', '.join(names)}, {epochs.columns()} FROM notifications_epoch "
        f"LEFT JOIN {_table(Stream)} ON user_id = %s WHERE notifications_epoch.id = 1"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [*params, to_db(user)])
        row = cursor.fetchone()
    if row is None:
        return epochs.epoch(), position(user), 0
    value, columns, epoch = row[0], row[1 : len(names) + 1], row[len(names) + 1 :]
    found = NO_STREAM if columns[0] is None else Position(**dict(zip(names, columns, strict=True)))
    return epochs.from_columns(epoch), found, value


def positions(users: Iterable[Any]) -> dict[Any, Position]:
    """Return the positions of the streams of these users (keys); ``NO_STREAM`` for one that does not exist."""
    found = {}
    columns = [field.name for field in fields(Position)]
    for user, row in _by_user(f"SELECT user_id, {', '.join(columns)} FROM {{stream}}", users):
        found[user] = Position(**dict(zip(columns, row, strict=True)))
    return {user: found.get(user, NO_STREAM) for user in users}


#: The position of a user without a stream: not created yet, or purged. Its guard differs from that of any stream,
#: because sessions may have ended with the purge.
NO_STREAM = Position(guard=-1)


def read_missed(cursors: Mapping[Any, Iterable[int]]) -> dict[tuple[Any, int], MissedChanges]:
    """Return the changes after each cursor of each user: ``read_missed({user: [41, 44]})[user, 41]``.

    Cursors that are at most ``MAX_ROWS_PER_READ`` behind share queries: one for the heads, one for each kind of row,
    one for the floors afterwards, whatever the number of users.
    """
    heads = positions(cursors)
    near: dict[Any, int] = {}
    rows: dict[tuple[Any, int], list[Notification | Job]] = {}
    for user, users_cursors in cursors.items():
        head = heads[user].head
        for cursor in users_cursors:
            if cursor == head or not heads[user].follows(cursor):
                continue
            if head - cursor <= MAX_ROWS_PER_READ:
                near[user] = min(cursor, near.get(user, cursor))
            else:
                rows[user, cursor] = _read_far(user, cursor, head)
    shared = _read_near(near, heads)
    floors = positions([*near, *(user for user, _ in rows if user not in near)])
    found = {}
    for user, users_cursors in cursors.items():
        for cursor in users_cursors:
            position = heads[user]
            if not position.follows(cursor) or (user in floors and floors[user].floor > cursor):
                found[user, cursor] = MissedChanges(position=position, rows=[], reset=True)
                continue
            changed = rows.get((user, cursor))
            if changed is None:
                changed = [row for row in shared.get(user, ()) if row.seq > cursor]
            found[user, cursor] = MissedChanges(
                position=position, rows=changed[:MAX_ROWS_PER_READ], cut=len(changed) > MAX_ROWS_PER_READ
            )
    return found


def read_snapshot(user: Any, head: int) -> list[Notification]:
    """Return the newest ``SNAPSHOT_ROWS`` notifications of a user (key) that are not archived, by ``raised``.

    Number the user first (``find_unnumbered_users``, then ``streams.number``), so that no committed row is missing.
    """
    return listing.read_newest(user, SNAPSHOT_ROWS, head=head)[::-1]


def find_unnumbered_users(users: Iterable[Any]) -> list[Any]:
    """Return those of these users (keys) that have pending rows."""
    found = set()
    for table in ("notification", "job"):
        sql = f"SELECT DISTINCT user_id FROM {{{table}}}"
        found |= {user for user, _ in _by_user(sql, users, "AND seq IS NULL")}
    return [user for user in users if user in found]


def read_snapshots(heads: Mapping[Any, int]) -> dict[Any, list[Notification]]:
    """Return what ``read_snapshot`` returns for each of these users (keys) at this head, 20 users a query."""
    found: dict[Any, list[Notification]] = {user: [] for user in heads}
    # Read and unread rows have an index each, of which the last entries are read.
    of_one_user = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {', '.join(listing.COLUMNS)} FROM {_table(Notification)} "
        f"WHERE user_id = %s AND raised <= %s "
        f"AND archived_at IS NULL AND read_at IS {null} ORDER BY raised DESC LIMIT {SNAPSHOT_ROWS}) AS part"
        for null in ("NULL", "NOT NULL")
    )
    for chunk in _chunks((item for item in heads.items() if item[1]), MAX_SNAPSHOTS_PER_QUERY):
        values = [value for user, head in chunk for value in (to_db(user), head) * 2]
        sql = " UNION ALL ".join([of_one_user] * len(chunk))
        for row in read_rows(Notification, listing.COLUMNS, sql, values):
            found[row.user_id].append(row)
    for rows in found.values():
        rows.sort(key=attrgetter("raised"))
        del rows[:-SNAPSHOT_ROWS]
    return found


def read_active_versions(users: Iterable[Any]) -> dict[Any, dict[Any, int]]:
    """Return the versions of each user's active jobs by id, of the ``MAX_ACTIVE_JOBS`` queued last, newest first.

    The ids are as the database has them, for ``read_active_jobs``.
    """
    found: dict[Any, dict[Any, int]] = {}
    tail = "AND seq = 0 ORDER BY user_id, queued_at DESC, id DESC"
    for user, (id, version) in _by_user("SELECT user_id, id, version FROM {job}", users, tail):
        versions = found.setdefault(user, {})
        if len(versions) < MAX_ACTIVE_JOBS:
            versions[id] = version
    return found


def read_active_jobs(ids: Iterable[Any]) -> dict[Any, Job]:
    """Return those of these jobs that are still active, by the ids that were given."""
    found = {}
    columns = ", ".join(JOB_COLUMNS)
    for chunk in _chunks(ids, MAX_KEYS_PER_QUERY):
        marks = ", ".join(["%s"] * len(chunk))
        sql = f"SELECT {columns}, id AS raw_id FROM {_table(Job)} WHERE id IN ({marks}) AND seq = 0"
        found.update({row.raw_id: row for row in read_rows(Job, JOB_COLUMNS, sql, chunk)})  # type: ignore[attr-defined]
    return found


def read_active_sums(users: Iterable[Any]) -> dict[Any, tuple[int, int]]:
    """Return (count, sum of versions) of each user's active jobs.

    While the head stays, any change of an active job changes them.
    """
    sql = "SELECT user_id, COUNT(*), SUM(version) FROM {job}"
    return {
        user: (count, int(total))
        for user, (count, total) in _by_user(sql, users, "AND seq = 0 GROUP BY user_id")
    }


def _read_near(lows: Mapping[Any, int], heads: Mapping[Any, Position]) -> dict[Any, list[Notification | Job]]:
    """Return the rows of many users, each after their own cursor, by seq.

    A cursor is at most ``MAX_ROWS_PER_READ`` behind, and each row takes one seq, so there are at most as many rows.
    """
    found: dict[Any, list[Notification | Job]] = {user: [] for user in lows}
    for chunk in _chunks(lows.items(), MAX_RANGES_PER_QUERY):
        values = ", ".join(["(%s, %s, %s)"] * len(chunk))
        ranges = [part for user, low in chunk for part in (to_db(user), low, heads[user].head)]
        for model, columns in ITEM_COLUMNS:
            # CROSS JOIN has SQLite read the few ranges first. PostgreSQL does so by itself.
            sql = (
                f"WITH ranges (user_key, low, high) AS (VALUES {values}) "
                f"SELECT {', '.join(f'r.{column}' for column in columns)} FROM ranges CROSS JOIN {_table(model)} r "
                "WHERE r.user_id = ranges.user_key AND r.seq > ranges.low AND r.seq <= ranges.high"
            )
            for row in read_rows(model, columns, sql, ranges):
                found[row.user_id].append(row)
    for rows in found.values():
        rows.sort(key=attrgetter("seq"))
    return found


def _read_far(user: Any, cursor: int, head: int) -> list[Notification | Job]:
    """Return the first ``MAX_ROWS_PER_READ`` rows of a user after ``cursor``, and one more where there are more."""
    found: list[Notification | Job] = []
    for model, columns in ITEM_COLUMNS:
        sql = (
            f"SELECT {', '.join(columns)} FROM {_table(model)} WHERE user_id = %s AND seq > %s AND seq <= %s "
            f"ORDER BY seq LIMIT {MAX_ROWS_PER_READ + 1}"
        )
        found += read_rows(model, columns, sql, [to_db(user), cursor, head])
    return sorted(found, key=attrgetter("seq"))[: MAX_ROWS_PER_READ + 1]


def _by_user(sql: str, users: Iterable[Any], tail: str = "") -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the rows of a query whose first column is the user, as (user key, the other columns)."""
    db = connection()
    sql = sql.format(stream=_table(Stream), notification=_table(Notification), job=_table(Job))
    for chunk in _chunks(users, MAX_KEYS_PER_QUERY):
        keys = {to_db(user): user for user in chunk}
        marks = ", ".join(["%s"] * len(keys))
        with db.cursor() as cursor:
            cursor.execute(f"{sql} WHERE user_id IN ({marks}) {tail}", [*keys])
            for user, *columns in cursor.fetchall():
                yield keys[user], tuple(columns)


def _chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(values)
    while chunk := list(islice(source, size)):
        yield chunk


def _table(model: type[models.Model]) -> str:
    return connection().ops.quote_name(model._meta.db_table)

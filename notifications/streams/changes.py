"""Reading: where streams are, what followed a cursor, what a client without one is shown, which jobs are active.

Head first, then the rows up to it, then the floor again. So a row that moves on meanwhile is picked up by the next
read, and one that was pruned meanwhile turns the answer into a reset; nothing is skipped. Nothing here locks or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

from django.db import models

from notifications.db.damaged_rows import read_rows
from notifications.db.transactions import connection
from notifications.models import Job, Notification, Stream
from notifications.streams import listing

#: Rows that one read returns at most.
MAX_ROWS_PER_READ = 200
#: A cursor further behind than this starts anew.
MAX_ROWS_BEHIND = 1_000
#: Notifications in a snapshot, and active jobs that a client is shown.
SNAPSHOT_ROWS = 50
#: Snapshots that one query reads, which bounds the memory that they need at once.
SNAPSHOTS_AT_ONCE = 20
ACTIVE_JOBS = 100

# What an item shows, and no more: arguments and results of jobs can be large.
JOB_COLUMNS = (
    *("id", "user_id", "seq", "version", "task_path", "state", "attempt", "max_attempts"),
    *("progress_current", "progress_total", "progress_message", "error", "title", "url"),
    *("created_at", "started_at", "finished_at", "run_after"),
)


SHOWN: tuple[tuple[type[Notification] | type[Job], tuple[str, ...]], ...] = (
    (Notification, listing.COLUMNS),
    (Job, JOB_COLUMNS),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a stream is: its ``head``, the ``floor`` below which rows were pruned, the ``unread`` count at that head,
    and ``guard``, which moves when sessions of the user may have ended."""

    head: int = 0
    floor: int = 0
    unread: int = 0
    guard: int = 0

    def follows(self, cursor: int) -> bool:
        """Whether a client at ``cursor`` can be sent what it missed; otherwise it starts anew from a snapshot."""
        return self.floor <= cursor <= self.head and self.head - cursor <= MAX_ROWS_BEHIND


@dataclass(frozen=True, kw_only=True, slots=True)
class Missed:
    """What follows a cursor: ``rows`` by seq up to ``position.head``, or up to the last of them when ``cut``.

    ``reset``: the cursor cannot be followed, there are no rows.
    """

    position: Position
    rows: list[Notification | Job]
    cut: bool = False
    reset: bool = False


def position(user: Any) -> Position:
    """Return where the stream of one user (key) is. One query."""
    return positions([user])[user]


def positions(users: Iterable[Any]) -> dict[Any, Position]:
    """Return where the streams of these users (keys) are; one that does not exist yet is at 0."""
    found = {}
    for user, row in _by_user("SELECT user_id, head, floor, unread, guard FROM {stream}", users):
        found[user] = Position(head=row[0], floor=row[1], unread=row[2], guard=row[3])
    return {user: found.get(user, NO_STREAM) for user in users}


#: A user whose stream is not there: not yet, or no longer. Their sessions may have ended with it.
NO_STREAM = Position(guard=-1)


def read_missed(cursors: Mapping[Any, Iterable[int]]) -> dict[tuple[Any, int], Missed]:
    """Return what followed each cursor of each user: ``missed({user: [41, 44]})[user, 41]``.

    Few queries, however many users: one for the heads, one for each kind of row, one for the floors afterwards.
    """
    heads = positions(cursors)
    near: dict[Any, int] = {}
    rows: dict[tuple[Any, int], list[Notification | Job]] = {}
    for user, wanted in cursors.items():
        head = heads[user].head
        for cursor in wanted:
            if cursor == head or not heads[user].follows(cursor):
                continue
            if head - cursor <= MAX_ROWS_PER_READ:
                near[user] = min(cursor, near.get(user, cursor))
            else:
                rows[user, cursor] = _read_far(user, cursor, head)
    shared = _read_near(near, heads)
    floors = positions([*near, *(user for user, _ in rows if user not in near)])
    found = {}
    for user, wanted in cursors.items():
        for cursor in wanted:
            there = heads[user]
            if not there.follows(cursor) or (user in floors and floors[user].floor > cursor):
                found[user, cursor] = Missed(position=there, rows=[], reset=True)
                continue
            mine = rows.get((user, cursor))
            if mine is None:
                mine = [row for row in shared.get(user, ()) if row.seq > cursor]
            found[user, cursor] = Missed(
                position=there, rows=mine[:MAX_ROWS_PER_READ], cut=len(mine) > MAX_ROWS_PER_READ
            )
    return found


def read_snapshot(user: Any, head: int) -> list[Notification]:
    """Return what a snapshot at ``head`` shows: the newest 50 notifications that are not archived, by ``raised``.

    Number the user first (``unnumbered``, then ``streams.number``), so that nothing committed is missing.
    """
    return listing.read_newest(user, SNAPSHOT_ROWS, head=head)[::-1]


def unnumbered(users: Iterable[Any]) -> list[Any]:
    """Return those of these users (keys) who have changes that wait for a number."""
    found = set()
    for table in ("notification", "job"):
        sql = f"SELECT DISTINCT user_id FROM {{{table}}}"
        found |= {user for user, _ in _by_user(sql, users, "AND seq IS NULL")}
    return [user for user in users if user in found]


def newest_of_many(heads: Mapping[Any, int]) -> dict[Any, list[Notification]]:
    """Return what ``read_snapshot`` returns, for each of these users (keys) at this head, in few queries."""
    found: dict[Any, list[Notification]] = {user: [] for user in heads}
    # The read and the unread apart: where each has an index of its own, both are read from its end.
    parts = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {', '.join(listing.COLUMNS)} FROM {_table(Notification)} "
        f"WHERE user_id = %s AND raised <= %s "
        f"AND archived_at IS NULL AND read_at IS {null} ORDER BY raised DESC LIMIT {SNAPSHOT_ROWS}) AS part"
        for null in ("NULL", "NOT NULL")
    )
    for some in _batches((item for item in heads.items() if item[1]), SNAPSHOTS_AT_ONCE):
        values = [value for user, head in some for value in (_to_db(user), head) * 2]
        sql = " UNION ALL ".join([parts] * len(some))
        for row in read_rows(Notification, listing.COLUMNS, sql, values):
            found[row.user_id].append(row)
    for rows in found.values():
        rows.sort(key=attrgetter("raised"))
        del rows[:-SNAPSHOT_ROWS]
    return found


def active_versions(users: Iterable[Any]) -> dict[Any, dict[Any, int]]:
    """Return the versions of each user's active jobs, the 100 that were queued last, newest first.

    The ids are as the database gives them, for ``active_jobs``.
    """
    found: dict[Any, dict[Any, int]] = {}
    tail = "AND seq = 0 ORDER BY user_id, queued_at DESC, id DESC"
    for user, (id, version) in _by_user("SELECT user_id, id, version FROM {job}", users, tail):
        versions = found.setdefault(user, {})
        if len(versions) < ACTIVE_JOBS:
            versions[id] = version
    return found


def active_jobs(ids: Iterable[Any]) -> dict[Any, Job]:
    """Return those of these jobs that are still active, under the ids that were given."""
    found = {}
    columns = ", ".join(JOB_COLUMNS)
    for some in _batches(ids, 500):
        marks = ", ".join(["%s"] * len(some))
        sql = f"SELECT {columns}, id AS raw_id FROM {_table(Job)} WHERE id IN ({marks}) AND seq = 0"
        found.update({row.raw_id: row for row in read_rows(Job, JOB_COLUMNS, sql, some)})  # type: ignore[attr-defined]
    return found


def active_sums(users: Iterable[Any]) -> dict[Any, tuple[int, int]]:
    """Return sums over each user's active jobs, (how many, versions added up). While the head stays, any change of an
    active job moves them."""
    sql = "SELECT user_id, COUNT(*), SUM(version) FROM {job}"
    return {
        user: (count, int(total))
        for user, (count, total) in _by_user(sql, users, "AND seq = 0 GROUP BY user_id")
    }


def _read_near(lows: Mapping[Any, int], heads: Mapping[Any, Position]) -> dict[Any, list[Notification | Job]]:
    """Rows of many users at once, each from a position of its own, by seq. A row takes a position, so these are few."""
    found: dict[Any, list[Notification | Job]] = {user: [] for user in lows}
    for some in _batches(lows.items(), 200):
        values = ", ".join(["(%s, %s, %s)"] * len(some))
        ranges = [part for user, low in some for part in (_to_db(user), low, heads[user].head)]
        for model, columns in SHOWN:
            # CROSS JOIN: SQLite keeps this order, the few ranges first; PostgreSQL finds it by itself.
            sql = (
                f"WITH wanted (user_key, low, high) AS (VALUES {values}) "
                f"SELECT {', '.join(f'r.{column}' for column in columns)} FROM wanted CROSS JOIN {_table(model)} r "
                "WHERE r.user_id = wanted.user_key AND r.seq > wanted.low AND r.seq <= wanted.high"
            )
            for row in read_rows(model, columns, sql, ranges):
                found[row.user_id].append(row)
    for rows in found.values():
        rows.sort(key=attrgetter("seq"))
    return found


def _read_far(user: Any, cursor: int, head: int) -> list[Notification | Job]:
    """The first rows after ``cursor``, and one more where there are more."""
    found: list[Notification | Job] = []
    for model, columns in SHOWN:
        sql = (
            f"SELECT {', '.join(columns)} FROM {_table(model)} WHERE user_id = %s AND seq > %s AND seq <= %s "
            f"ORDER BY seq LIMIT {MAX_ROWS_PER_READ + 1}"
        )
        found += read_rows(model, columns, sql, [_to_db(user), cursor, head])
    return sorted(found, key=attrgetter("seq"))[: MAX_ROWS_PER_READ + 1]


def _by_user(sql: str, users: Iterable[Any], tail: str = "") -> Iterator[tuple[Any, tuple]]:
    """Rows of a query whose first column is the user, as (key as it was given, the other columns)."""
    db = connection()
    sql = sql.format(stream=_table(Stream), notification=_table(Notification), job=_table(Job))
    for some in _batches(users, 500):
        keys = {_to_db(user): user for user in some}
        marks = ", ".join(["%s"] * len(keys))
        with db.cursor() as cursor:
            cursor.execute(f"{sql} WHERE user_id IN ({marks}) {tail}", [*keys])
            for user, *columns in cursor.fetchall():
                yield keys[user], tuple(columns)


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(values)
    while some := list(islice(source, size)):
        yield some


def _table(model: type[models.Model]) -> str:
    return connection().ops.quote_name(model._meta.db_table)


def _to_db(user: Any) -> Any:
    return Stream._meta.pk.get_db_prep_value(user, connection())

"""Read streams: positions, changes after a cursor, snapshots, active jobs.

One statement reads positions, notifications after a cursor and the versions of active jobs, all of one moment. Finished
jobs are read after it, if notifications alone do not account for every seq up to the head. A row that is still missing
then has moved past the head, where the next read finds it, or was pruned: then the floor, read last, turns the answer
into a reset. So none is skipped. This module neither locks nor writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any

from django.db import models

from notifications.db.transactions import connection
from notifications.db.user_keys import to_db
from notifications.models import Job, Notification, Stream
from notifications.streams import epochs, listing
from notifications.streams.stream_reads import (
    NO_STREAM,
    POSITION_COLUMNS,
    Position,
    Row,
    as_position,
    join_by_index,
    read_rows,
    read_streams,
)

#: Rows that one read returns at most, of both kinds together.
MAX_ROWS_PER_READ = 200
#: Notifications in a snapshot.
SNAPSHOT_ROWS = 50
#: Snapshots that one query reads at most, which bounds their memory.
MAX_SNAPSHOTS_PER_QUERY = 20
#: Users or ids in one query at most.
MAX_KEYS_PER_QUERY = 500
#: Users whose streams one query reads at most.
MAX_RANGES_PER_QUERY = 200

#: The columns that an item shows, without arguments and results of jobs, which can be large.
JOB_COLUMNS = (
    *("id", "user_id", "seq", "version", "task_path", "state", "executor", "attempt", "max_attempts"),
    *("progress_current", "progress_total", "progress_message", "error", "title", "url"),
    *("created_at", "started_at", "finished_at", "run_after", "waiting"),
)


ITEM_COLUMNS: tuple[tuple[type[Notification] | type[Job], tuple[str, ...]], ...] = (
    (Notification, listing.COLUMNS),
    (Job, JOB_COLUMNS),
)


#: Open questions of a user are counted up to this number.
MAX_QUESTIONS = 100


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
    sql = (
        f"SELECT {column}, {POSITION_COLUMNS}, {epochs.columns()} FROM notifications_epoch "
        f"LEFT JOIN {_table(Stream)} ON user_id = %s WHERE notifications_epoch.id = 1"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [*params, to_db(user)])
        row = cursor.fetchone()
    if row is None:
        return epochs.epoch(), position(user), 0
    size = len(Position._fields)
    value, columns, epoch = row[0], row[1 : size + 1], row[size + 1 :]
    return epochs.from_columns(epoch), as_position(columns), value


def positions(users: Iterable[Any]) -> dict[Any, Position]:
    """Return the positions of the streams of these users (keys); ``NO_STREAM`` for one that does not exist."""
    found = dict.fromkeys(users, NO_STREAM)
    for user, columns in _by_user(f"SELECT user_id, {POSITION_COLUMNS} FROM {{stream}}", found):
        found[user] = Position._make(columns)
    return found


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
    for chunk in _chunks(cursors.items(), MAX_RANGES_PER_QUERY):
        found.update(_read_missed({user: list(users_cursors) for user, users_cursors in chunk}))
    return found


def _read_missed(cursors: dict[Any, list[int | None]]) -> dict[tuple[Any, int | None], MissedChanges]:
    single = {user: each[0] if len(each) == 1 else None for user, each in cursors.items()}
    states = read_streams(single, MAX_ROWS_PER_READ)
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
    for chunk in _chunks(ids, MAX_KEYS_PER_QUERY):
        marks = ", ".join(["%s"] * len(chunk))
        sql = f"SELECT {columns}, CAST(id AS text) AS raw_id FROM {_table(Job)} WHERE id IN ({marks}) AND seq = 0"
        found.update({row.raw_id: row for row in read_rows(Job, sql, chunk)})  # type: ignore[attr-defined]
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


def _read_near(
    lows: Mapping[Any, int], heads: Mapping[Any, int], kinds: Iterable[tuple[type[Any], Sequence[str]]]
) -> dict[Any, list[Row]]:
    """Return the rows of these kinds of many users, each after their own cursor.

    A cursor is at most ``MAX_ROWS_PER_READ`` behind, and each row takes one seq, so there are at most as many rows.
    """
    found: dict[Any, list[Row]] = {user: [] for user in lows}
    values = ", ".join(["(%s, %s, %s)"] * len(lows))
    ranges = [part for user, low in lows.items() for part in (to_db(user), low, heads[user])]
    condition = "r.user_id = ranges.user_key AND r.seq > ranges.low AND r.seq <= ranges.high"
    for model, columns in kinds if lows else ():
        rows = join_by_index(f"{_table(model)} AS r", condition, connection().vendor)
        sql = (
            f"WITH ranges (user_key, low, high) AS (VALUES {values}) "
            f"SELECT {', '.join(f'r.{column}' for column in columns)} FROM ranges {rows}"
        )
        for row in read_rows(model, sql, ranges):
            found[row.user_id].append(row)
    return found


def _read_far(user: Any, cursor: int, head: int) -> list[Row]:
    """Return the first ``MAX_ROWS_PER_READ`` rows of a user after ``cursor``, and one more where there are more."""
    found: list[Row] = []
    for model, columns in ITEM_COLUMNS:
        sql = (
            f"SELECT {', '.join(columns)} FROM {_table(model)} WHERE user_id = %s AND seq > %s AND seq <= %s "
            f"ORDER BY seq LIMIT {MAX_ROWS_PER_READ + 1}"
        )
        found += read_rows(model, sql, [to_db(user), cursor, head])
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

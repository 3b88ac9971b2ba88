"""The epoch, and the positions of streams. Nothing here locks streams or writes to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from notifications.db.adapters import user_to_db
from notifications.db.transactions import chunks, connection, dialect, retrying_atomic
from notifications.models import Epoch

#: A client whose cursor is further behind starts from a snapshot.
MAX_ROWS_BEHIND = 1_000
#: Users in one query at most.
MAX_USERS_PER_QUERY = 500
#: Open questions of a user are counted up to this number.
MAX_QUESTIONS = 100


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


class StreamPosition(NamedTuple):
    """The position that a page carries, from which its client resumes, and how many questions are open.

    ``questions`` is at most ``MAX_QUESTIONS``. ``badge`` is the number at the bell: what is unseen, and the open
    questions that were seen, each counted once.
    """

    epoch: str
    seq: int
    unread: int
    unseen: int
    questions: int = 0
    badge: int = 0


def epoch() -> str:
    """Return the epoch of the database, which is made at the first call.

    It is the identity of all sequences of a database, which a restored backup replaces. On PostgreSQL it ends with the
    timeline of the WAL, so that a failover that lost commits begins a new epoch.
    """
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(epoch_columns())} FROM notifications_epoch WHERE id = 1")
        row = cursor.fetchone()
        if row is None:
            cursor.execute(
                "INSERT INTO notifications_epoch (id, value) VALUES (1, %s) ON CONFLICT (id) DO NOTHING",
                [_new_epoch()],
            )
    return epoch() if row is None else parse_epoch(*row)


def begin_epoch() -> str:
    """Replace the epoch and return the new one. Every client then starts from a snapshot."""
    epoch()  # creates the row if it is missing

    def change() -> None:
        with connection().cursor() as cursor:
            cursor.execute("UPDATE notifications_epoch SET value = %s WHERE id = 1", [_new_epoch()])

    retrying_atomic(change)
    return epoch()


def position(user: Any) -> Position:
    """Return the position of the stream of one user (key), in one query."""
    return positions([user])[user]


def positions(users: Iterable[Any]) -> dict[Any, Position]:
    """Return the positions of the streams of these users (keys); ``NO_STREAM`` for one that does not exist."""
    found = dict.fromkeys(users, NO_STREAM)
    for user, columns in _by_user(f"SELECT user_id, {POSITION_COLUMNS} FROM notifications_stream", found):
        found[user] = Position._make(columns)
    return found


def seen_positions(users: Iterable[Any]) -> dict[Any, int]:
    """Return up to where each of these users (keys) was shown the stream, without those that have none."""
    rows = _by_user("SELECT user_id, seen FROM notifications_stream", set(users))
    return {user: seen for user, (seen,) in rows}


def epoch_and_position(user: Any) -> tuple[str, Position]:
    """Return the epoch and the position of the stream of one user (key), of one moment, in one query."""
    epoch, position, _ = _read_epoch_and_position(user, (), [])
    return epoch, position


def read_stream_position(user: Any) -> StreamPosition:
    """Return the position of the stream of a user (key), in one query. Read it before the rows that a page lists."""
    return read_position_with(user, (), [])[0]


def read_position_with(
    user: Any, columns: Sequence[str], params: Sequence[Any]
) -> tuple[StreamPosition, Sequence[Any]]:
    """Return the position of the stream of a user (key) with other columns of that moment, as SQL with parameters."""
    count = (
        "(SELECT COUNT(*) FROM (SELECT 1 FROM notifications_notification WHERE user_id = %s "
        f"AND open_question IS NOT NULL AND archived_at IS NULL {{}}LIMIT {MAX_QUESTIONS}) AS questions)"
    )
    columns = [count.format(""), count.format("AND raised <= notifications_stream.seen "), *columns]
    values = [*[user_to_db(user)] * 2, *params]
    epoch, position, (questions, seen, *found) = _read_epoch_and_position(user, columns, values)
    badge = position.unseen + seen
    return StreamPosition(epoch, position.head, position.unread, position.unseen, questions, badge), found


def as_position(columns: Sequence[Any]) -> Position:
    """Return the position in the ``POSITION_COLUMNS`` of a stream, or of none if they are NULL."""
    return NO_STREAM if columns[0] is None else Position._make(columns)


def find_unnumbered_users(users: Iterable[Any]) -> list[Any]:
    """Return those of these users (keys) that have pending rows."""
    found = set()
    for table in ("notification", "job"):
        sql = f"SELECT DISTINCT user_id FROM notifications_{table}"
        found |= {user for user, _ in _by_user(sql, users, "AND seq IS NULL")}
    return [user for user in users if user in found]


def read_active_sums(users: Iterable[Any]) -> dict[Any, tuple[int, int]]:
    """Return (count, sum of versions) of each user's active jobs.

    While the head stays, any change of an active job changes them.
    """
    sql = "SELECT user_id, COUNT(*), SUM(version) FROM notifications_job"
    return {
        user: (count, int(total))
        for user, (count, total) in _by_user(sql, users, "AND seq = 0 GROUP BY user_id")
    }


def _by_user(sql: str, users: Iterable[Any], tail: str = "") -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the rows of a query whose first column is the user, as (user key, the other columns)."""
    for chunk in chunks(users, MAX_USERS_PER_QUERY):
        keys = {user_to_db(user): user for user in chunk}
        marks = ", ".join(["%s"] * len(keys))
        with connection().cursor() as cursor:
            cursor.execute(f"{sql} WHERE user_id IN ({marks}) {tail}", [*keys])
            for user, *columns in cursor.fetchall():
                yield keys[user], tuple(columns)


def _read_epoch_and_position(
    user: Any, columns: Sequence[str], params: list[Any]
) -> tuple[str, Position, Sequence[Any]]:
    """Return the epoch, the position of the stream of a user (key), and other columns."""
    sql = (
        f"SELECT {', '.join([*columns, POSITION_COLUMNS, *epoch_columns()])} FROM notifications_epoch "
        "LEFT JOIN notifications_stream ON user_id = %s WHERE notifications_epoch.id = 1"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [*params, user_to_db(user)])
        row = cursor.fetchone()
    if row is None:
        epoch()
        return _read_epoch_and_position(user, columns, params)
    first = len(columns)
    end = first + len(Position._fields)
    return parse_epoch(*row[end:]), as_position(row[first:end]), row[:first]


def epoch_columns() -> list[str]:
    """Return the columns of ``notifications_epoch`` that ``parse_epoch()`` takes."""
    return ["value", dialect().timeline()]


@lru_cache(maxsize=10)
def parse_epoch(value: Any, timeline: Any) -> str:
    """Return the epoch in its columns."""
    id = str(uuid.UUID(str(value)))
    return id if timeline is None else f"{id}-{timeline.lower()}"


def _new_epoch() -> Any:
    return Epoch._meta.get_field("value").get_db_prep_value(uuid.uuid4(), connection())

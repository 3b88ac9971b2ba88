"""One pass of numbering: gives pending rows the next positions of their users' streams. See ``streams``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from django.db.backends.utils import CursorWrapper

from notifications import times
from notifications.db import bulk
from notifications.db.adapters import user_from_db, user_to_db
from notifications.db.dialects import dialect_of
from notifications.db.transactions import dialect
from notifications.models import Job, Notification, Stream

#: Second column and condition of the index ``notifications_n_open_key``, worded as it is: see ``models.Notification``.
KEY_OWNER = "COALESCE(user_id, user_id)"
HAS_OPEN_KEY = "NOT (key = '') AND COALESCE(read_at, archived_at) IS NULL"

#: Rows that one pass numbers at most.
MAX_ROWS_PER_PASS = 200
#: The same on SQLite, whose other writers wait meanwhile.
MAX_ROWS_PER_PASS_OF_ONE_WRITER = 100


class Countable(Protocol):
    """A notification, as a model or as a ``Row``."""

    raised: int | None
    counted: bool


@dataclass(slots=True, eq=False)
class Row:
    """A pending row, or an unread notification that a pending one with the same key replaces.

    ``id`` and ``user`` are as the database has them. ``open``: neither read nor archived.
    """

    table: str
    id: Any
    user: Any
    raised: int | None = None
    counted: bool = False
    open: bool = False
    key: str = ""
    seq: int | None = None
    archived: bool = False


@dataclass(slots=True, eq=False)
class StreamState:
    """What numbering reads and changes of a stream that is locked. It never changes ``seen`` and ``guard``."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("head", "unread", "seen", "unseen", "guard")

    head: int
    unread: int
    seen: int
    unseen: int
    guard: int

    def advance(self) -> int:
        self.head += 1
        return self.head

    def count(self, row: Countable, is_open: bool) -> None:
        """Count a notification, which has its ``raised``, among the unread and unseen, or count it no longer."""
        change = is_open - row.counted
        row.counted = is_open
        self.unread += change
        if row.raised is not None and row.raised > self.seen:
            self.unseen += change


class Pass:
    """One pass over the pending rows of some users (keys, in ascending order), in the transaction that is open."""

    def __init__(self, cursor: CursorWrapper, db: Any, users: list[Any]) -> None:
        self.cursor = cursor
        self.db = db
        self.users = [user_to_db(user) for user in users]
        self.user_condition, self.params = bulk.where_in(Stream, "user_id", self.users)
        self.dialect = dialect_of(db)
        self.limit = self.dialect.rows_per_transaction(
            MAX_ROWS_PER_PASS, one_writer=MAX_ROWS_PER_PASS_OF_ONE_WRITER
        )

    def run(self) -> tuple[list[Any], bool]:
        """Number rows; return the users (keys) whose streams moved, and whether the pass was full."""
        self.lock_streams()
        # A later statement: one that locked and read at once would read from a snapshot older than its lock, and number
        # rows twice.
        rows, open_rows, blocked_keys = self.read_numberable()
        if not rows:
            return [], False
        streams = self.read_streams()
        numbered: dict[Any, Row] = {}
        for row in rows:
            stream = streams[row.user]
            if row.key and row.raised is None:
                if (row.user, row.key) in blocked_keys:
                    continue  # the transaction that holds the older row numbers both
                for older in open_rows.pop((row.user, row.key), []):
                    self.supersede(older, stream, numbered)
            self.assign(row, stream, numbered)
            if row.key and row.open and row not in open_rows.get((row.user, row.key), []):
                open_rows.setdefault((row.user, row.key), []).append(row)
        moved = self.write(list(numbered.values()), streams)
        return [user_from_db(user) for user in moved], bool(numbered) and len(rows) >= self.limit

    def lock_streams(self) -> None:
        for statement in self.dialect.locking_write(*lock_statement(self.users)):
            self.cursor.execute(*statement)

    def read_numberable(self) -> tuple[list[Row], dict[tuple[Any, str], list[Row]], set[tuple[Any, str]]]:
        """Return pending rows, and what ``lock_replaced`` returns for them.

        Rows whose key is blocked never fill the pass, or they would hold up all others.
        """
        passed_over: set[tuple[Any, str]] = set()
        while True:
            rows = self.read_pending(passed_over)
            open_rows, blocked_keys = self.lock_replaced(rows)
            if not blocked_keys or len(rows) < self.limit:
                return rows, open_rows, blocked_keys
            passed_over |= blocked_keys

    def read_pending(self, passed_over: set[tuple[Any, str]]) -> list[Row]:
        """Lock and return pending rows by id, but new ones of the users and keys in ``passed_over``.

        Rows that are locked elsewhere are skipped: waiting for one while holding streams deadlocks with a transaction
        that holds the row and waits for a stream.
        """
        where = f"WHERE {self.user_condition} AND seq IS NULL"
        tail = f"ORDER BY id LIMIT {self.limit}{bulk.lock_sql()}"
        self.cursor.execute(
            "SELECT id, user_id, raised, counted, read_at IS NULL AND archived_at IS NULL, key "
            f"FROM notifications_notification {where}"
            f"{' AND NOT (raised IS NULL AND user_id = %s AND key = %s)' * len(passed_over)} {tail}",
            [*self.params, *(part for pair in passed_over for part in pair)],
        )
        rows = [
            Row("notifications_notification", id, user, raised, bool(counted), bool(is_open), key)
            for id, user, raised, counted, is_open, key in self.cursor.fetchall()
        ]
        self.cursor.execute(f"SELECT id, user_id FROM notifications_job {where} {tail}", self.params)
        rows += [Row("notifications_job", id, user) for id, user in self.cursor.fetchall()]
        rows.sort(key=lambda row: row.id)
        return rows[: self.limit]

    def read_streams(self) -> dict[Any, StreamState]:
        """Return the streams by user, as the database has their keys."""
        reading = read_statement(self.users)
        self.cursor.execute(*reading)
        if len(rows := self.cursor.fetchall()) < len(
            self.users
        ):  # not locked by a write, and users have none yet
            self.cursor.execute(*lock_statement(self.users))
            self.cursor.execute(*reading)
            rows = self.cursor.fetchall()
        return {user: StreamState(*columns) for user, *columns in rows}

    def lock_replaced(self, rows: list[Row]) -> tuple[dict[tuple[Any, str], list[Row]], set[tuple[Any, str]]]:
        """Lock the open rows that new rows with the same key replace.

        Returns them by user and key, and the users and keys of which such a row is locked elsewhere.
        """
        new = {(row.user, row.key) for row in rows if row.key and row.raised is None}
        if not new:
            return {}, set()
        users, keys = sorted({user for user, _ in new}), sorted({key for _, key in new})
        # ``+raised``: SQLite would use the index of a whole inbox otherwise.
        query = (
            "SELECT id, user_id, raised, counted, key FROM notifications_notification "
            f"WHERE {KEY_OWNER} IN ({', '.join(['%s'] * len(users))}) AND key IN ({', '.join(['%s'] * len(keys))}) "
            f"AND {HAS_OPEN_KEY} AND +raised IS NOT NULL"
        )
        self.cursor.execute(query, [*users, *keys])
        visible = self.cursor.fetchall()
        locked = {row[0]: row for row in self.dialect.lock_rows(self.cursor, query, [*users, *keys], visible)}
        pending = {row.id: row for row in rows}
        found: dict[tuple[Any, str], list[Row]] = {}
        for _, (id, user, raised, counted, key) in sorted(locked.items()):
            row = pending.get(id) or Row(
                "notifications_notification", id, user, raised, bool(counted), True, key
            )
            found.setdefault((user, key), []).append(row)
        return found, {(user, key) for id, user, _, _, key in visible if id not in locked}

    def supersede(self, row: Row, stream: StreamState, numbered: dict[Any, Row]) -> None:
        """Archive a row that a newer one with the same key replaces."""
        row.open = False
        row.archived = True
        if row.id in numbered:
            stream.count(row, False)
        else:
            self.assign(row, stream, numbered)

    def assign(self, row: Row, stream: StreamState, numbered: dict[Any, Row]) -> None:
        """Give a row the next ``seq`` of its stream, and count it among the unread if it is open."""
        if row.id in numbered:
            return
        row.seq = stream.advance()
        if row.table == "notifications_notification":
            row.raised = row.raised or row.seq
            stream.count(row, row.open)
        numbered[row.id] = row

    def write(self, rows: list[Row], streams: dict[Any, StreamState]) -> list[Any]:
        """Write rows and streams; return the users whose streams moved, as the database has their keys."""
        notifications = [
            (row.seq, row.raised, row.counted, row.id)
            for row in rows
            if row.table == "notifications_notification"
        ]
        bulk.update_rows(Notification, ("seq", "raised", "counted"), ("id",), notifications)
        if archived := [row.id for row in rows if row.archived]:
            marks = ", ".join(["%s"] * len(archived))
            self.cursor.execute(
                f"UPDATE notifications_notification SET archived_at = %s WHERE id IN ({marks}) AND archived_at IS NULL",
                [times.to_db(times.now(), self.db), *archived],
            )
        jobs = [(row.seq, row.id) for row in rows if row.table == "notifications_job"]
        bulk.update_rows(Job, ("seq",), ("id",), jobs)
        moved = list(dict.fromkeys(row.user for row in rows))
        write_streams({user: streams[user] for user in moved})
        return moved


def lock_statement(users: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the statement that creates or locks the streams of users in the order of their keys.

    Users are as the database has their keys. Its last WHERE is never true, so that nothing is written to an existing
    stream.
    """
    ids, params = bulk.values(Stream, ("user_id",), [(user,) for user in users])
    return (
        f"WITH users (id) AS ({ids}) INSERT INTO notifications_stream (user_id, head, floor, unread, guard) "
        "SELECT id, 0, 0, 0, 0 FROM users WHERE true "
        "ON CONFLICT (user_id) DO UPDATE SET head = notifications_stream.head WHERE notifications_stream.head < 0",
        params,
    )


def read_statement(users: Sequence[Any], epoch_columns: Sequence[str] = ()) -> tuple[str, list[Any]]:
    """Return the query for the ``StreamState`` of users, which are as the database has their keys.

    ``epoch_columns``
        Columns of the epoch, which follow.
    """
    condition, params = bulk.where_in(Stream, "user_id", users)
    columns = ", ".join(["user_id", *StreamState.COLUMNS, *epoch_columns])
    tables = "notifications_stream"
    if epoch_columns:
        tables += " LEFT JOIN notifications_epoch ON notifications_epoch.id = 1"
    return f"SELECT {columns} FROM {tables} WHERE {condition}", params


def write_streams(streams: Mapping[Any, StreamState]) -> None:
    """Write streams, by user as the database has their keys."""
    values = [(stream.head, stream.unread, stream.unseen, user) for user, stream in streams.items()]
    bulk.update_rows(Stream, ("head", "unread", "unseen"), ("user_id",), values)


def unnumbered_index(table: str) -> str:
    """Return what names the index of unnumbered rows after a table, ``"n"`` for notifications or ``"job"``.

    With statistics SQLite prefers the index of all rows, in which it looks each user up: 5 ms with 1,000 users.
    """
    return dialect().by_index(f"notifications_{table}_unnumbered")

"""One pass of numbering: gives rows that wait for it the next positions of their users' streams. See ``streams``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.backends.utils import CursorWrapper

from notifications import times
from notifications.db import bulk
from notifications.db.transactions import connection
from notifications.db.user_keys import from_db, to_db
from notifications.models import Job, Notification, Stream

#: The first column and the condition of the index of keys, in its words: see ``models.Notification``.
KEY_OWNER = "COALESCE(user_id, user_id)"
HAS_OPEN_KEY = "NOT (key = '') AND COALESCE(read_at, archived_at) IS NULL"


@dataclass(slots=True, eq=False)
class Row:
    table: str
    id: Any
    user: Any
    raised: int | None = None
    counted: bool = False
    open: bool = False
    key: str = ""
    seq: int | None = None
    archived: bool = False


class Pass:
    """One pass over the rows that wait for a number."""

    def __init__(self, cursor: CursorWrapper, db: Any, users: list[Any]) -> None:
        self.cursor = cursor
        self.db = db
        self.users = [to_db(user) for user in users]
        self.theirs, self.params = bulk.where_in(Stream, "user_id", self.users)
        self.limit = 100 if db.vendor == "sqlite" else 200

    def run(self) -> tuple[list[Any], bool]:
        """Number rows; return the users (keys) whose streams moved, and whether the pass was full."""
        self.lock_streams()
        # A later statement: one that locked and read at once would read from a snapshot older than its lock, and number
        # rows twice.
        rows, open_rows, blocked = self.take_free()
        if not rows:
            return [], False
        streams = self.read_streams()
        numbered: dict[Any, Row] = {}
        for row in rows:
            stream = streams[row.user]
            if row.key and row.raised is None:
                if (row.user, row.key) in blocked:
                    continue  # whoever holds the older row numbers both
                for older in open_rows.pop((row.user, row.key), []):
                    self.supersede(older, stream, numbered)
            self.give(row, stream, numbered)
            if row.key and row.open and row not in open_rows.get((row.user, row.key), []):
                open_rows.setdefault((row.user, row.key), []).append(row)
        moved = self.write(list(numbered.values()), streams)
        return [from_db(user) for user in moved], bool(numbered) and len(rows) >= self.limit

    def lock_streams(self) -> None:
        """Create or lock the streams in one order. The WHERE is never true: nothing is written to an existing one."""
        self.cursor.execute(*self.locking())

    def locking(self) -> tuple[str, list[Any]]:
        users, params = bulk.values(Stream, ("user_id",), [(user,) for user in self.users])
        return (
            f"WITH users (id) AS ({users}) INSERT INTO notifications_stream (user_id, head, floor, unread, guard) "
            "SELECT id, 0, 0, 0, 0 FROM users WHERE true "
            "ON CONFLICT (user_id) DO UPDATE SET head = notifications_stream.head WHERE notifications_stream.head < 0",
            params,
        )

    def take_free(self) -> tuple[list[Row], dict[tuple[Any, str], list[Row]], set[tuple[Any, str]]]:
        """Take rows, and what ``keyed`` finds for them. Those that must wait for a locked one never fill the pass: they
        would stall all others."""
        passed: set[tuple[Any, str]] = set()
        while True:
            rows = self.take(passed)
            open_rows, blocked = self.keyed(rows)
            if not blocked or len(rows) < self.limit:
                return rows, open_rows, blocked
            passed |= blocked

    def take(self, passed: set[tuple[Any, str]]) -> list[Row]:
        """Take the rows without a number, by id. Whoever holds streams waits for no row: locked ones are left.

        New rows of the users and keys in ``passed`` are left too.
        """
        where = f"WHERE {self.theirs} AND seq IS NULL"
        tail = f"ORDER BY id LIMIT {self.limit}{lock(skip=True)}"
        self.cursor.execute(
            "SELECT id, user_id, raised, counted, read_at IS NULL AND archived_at IS NULL, key "
            f"FROM notifications_notification {where}"
            f"{' AND NOT (raised IS NULL AND user_id = %s AND key = %s)' * len(passed)} {tail}",
            [*self.params, *(part for pair in passed for part in pair)],
        )
        rows = [
            Row("notifications_notification", id, user, raised, bool(counted), bool(is_open), key)
            for id, user, raised, counted, is_open, key in self.cursor.fetchall()
        ]
        self.cursor.execute(f"SELECT id, user_id FROM notifications_job {where} {tail}", self.params)
        rows += [Row("notifications_job", id, user) for id, user in self.cursor.fetchall()]
        rows.sort(key=lambda row: row.id)
        return rows[: self.limit]

    def read_streams(self) -> dict[Any, list[int]]:
        self.cursor.execute(*self.reading())
        return {user: [head, unread] for user, head, unread in self.cursor.fetchall()}

    def reading(self) -> tuple[str, list[Any]]:
        return f"SELECT user_id, head, unread FROM notifications_stream WHERE {self.theirs}", self.params

    def keyed(self, rows: list[Row]) -> tuple[dict[tuple[Any, str], list[Row]], set[tuple[Any, str]]]:
        """Find the open rows that new ones with the same key archive, and the keys of which one is locked elsewhere."""
        new = {(row.user, row.key) for row in rows if row.key and row.raised is None}
        if not new:
            return {}, set()
        users, keys = sorted({user for user, _ in new}), sorted({key for _, key in new})
        # ``+raised``: SQLite would take the index of a whole inbox otherwise.
        query = (
            "SELECT id, user_id, raised, counted, key FROM notifications_notification "
            f"WHERE {KEY_OWNER} IN ({', '.join(['%s'] * len(users))}) AND key IN ({', '.join(['%s'] * len(keys))}) "
            f"AND {HAS_OPEN_KEY} AND +raised IS NOT NULL"
        )
        self.cursor.execute(query, [*users, *keys])
        visible = {row[0]: row for row in self.cursor.fetchall()}
        held = visible
        if visible and self.db.features.has_select_for_update_skip_locked:
            self.cursor.execute(f"{query} ORDER BY id{lock(skip=True)}", [*users, *keys])
            held = {row[0]: row for row in self.cursor.fetchall()}
        here = {row.id: row for row in rows}
        found: dict[tuple[Any, str], list[Row]] = {}
        for _, (id, user, raised, counted, key) in sorted(held.items()):
            row = here.get(id) or Row(
                "notifications_notification", id, user, raised, bool(counted), True, key
            )
            found.setdefault((user, key), []).append(row)
        return found, {(user, key) for id, (_, user, _, _, key) in visible.items() if id not in held}

    def supersede(self, row: Row, stream: list[int], numbered: dict[Any, Row]) -> None:
        row.open = False
        row.archived = True
        if row.id in numbered:
            if row.counted:
                stream[1] -= 1
                row.counted = False
        else:
            self.give(row, stream, numbered)

    def give(self, row: Row, stream: list[int], numbered: dict[Any, Row]) -> None:
        if row.id in numbered:
            return
        stream[0] += 1
        row.seq = stream[0]
        if row.table == "notifications_notification":
            row.raised = row.raised or row.seq
            stream[1] += row.open - row.counted
            row.counted = row.open
        numbered[row.id] = row

    def write(self, rows: list[Row], streams: dict[Any, list[int]]) -> list[Any]:
        """Write what was given; return the streams that moved, as the database has their keys."""
        notices = [
            (row.seq, row.raised, row.counted, row.id)
            for row in rows
            if row.table == "notifications_notification"
        ]
        bulk.update(Notification, ("seq", "raised", "counted"), ("id",), notices)
        if archived := [row.id for row in rows if row.archived]:
            marks = ", ".join(["%s"] * len(archived))
            self.cursor.execute(
                f"UPDATE notifications_notification SET archived_at = %s WHERE id IN ({marks}) AND archived_at IS NULL",
                [times.to_db(times.now(), self.db), *archived],
            )
        jobs = [(row.seq, row.id) for row in rows if row.table == "notifications_job"]
        bulk.update(Job, ("seq",), ("id",), jobs)
        moved = list(dict.fromkeys(row.user for row in rows))
        bulk.update(Stream, ("head", "unread"), ("user_id",), [(*streams[user], user) for user in moved])
        return moved


def lock(*, skip: bool = False) -> str:
    """The clause that locks rows: NO KEY, because FOR UPDATE would collide with the key-share locks of foreign keys."""
    if not connection().features.has_select_for_update_skip_locked:
        return ""
    return " FOR NO KEY UPDATE SKIP LOCKED" if skip else " FOR NO KEY UPDATE"

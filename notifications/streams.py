"""Numbering: the one act that orders everything, and the one place where streams are locked.

A writer never touches a stream. It inserts or changes rows with ``seq`` NULL; at the end of our own
transaction, or after the commit of a caller's, ``number`` gives them the next positions of their user's
stream. So the order of commits is the order of ``seq``, a rollback leaves no hole, and nobody ever sees n+1
without n.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.backends.utils import CursorWrapper
from django.db.models import Q, QuerySet
from django.utils import timezone

from notifications import bulk
from notifications.ids import process
from notifications.models import Epoch, Job, Notification, Stream
from notifications.signals import rung
from notifications.transactions import (
    CHUNK,
    after_commit,
    connection,
    database,
    ours,
    paced,
    together_after_commit,
)

#: Streams locked by one transaction at most.
USERS_AT_ONCE = 100
#: Streams of which one query asks whether their users exist.
STREAMS_AT_ONCE = 500
#: Rows of ``Ring`` that are kept.
RINGS_KEPT = 5_000


def number(users: Iterable[Any], *, more: bool = False) -> None:
    """Give their ``seq`` to all changed rows of these users (keys), each a position of its own.

    Inside a caller's atomic block this is put off until after its commit. ``more`` says that the caller goes on
    writing: SQLite's lock is left to others before this returns.
    Raises ``django.db.OperationalError`` when the database stays busy; the rows are then numbered within a second by
    ``leftovers`` of any process.
    """
    users = set(users)
    db = connection()
    if not db.in_atomic_block:
        return _number_all(users, more)
    together_after_commit("numbering", users, lambda told: _number_all(set().union(*told)))


def number_here(users: Iterable[Any]) -> bool:
    """Number at most one pass of rows of these users, in the transaction of our own that is open now, as its last act.

    Returns True when the pass was full: then call ``number`` after the commit, more may wait.
    """
    ordered = sorted(set(users))
    if not ordered:
        return False
    db = connection()
    with db.cursor() as cursor:
        return _Pass(cursor, db, ordered).run()


def allot(rows: Iterable[Any]) -> None:
    """Give their first numbers, in this order, to jobs and notifications that are about to be written.

    In a transaction of our own that writes them next and then ends, without waiting for anybody: it holds the streams.
    None of the notifications has the key of an older one.
    """
    rows = list(rows)
    if not rows:
        return
    db = connection()
    keys = {user: _to_db(user) for user in sorted({row.user_id for row in rows})}
    with db.cursor() as cursor:
        one = _Pass(cursor, db, list(keys))
        one.lock_streams()
        # A later statement: one that locked and read at once would read from a snapshot older than its lock.
        streams = one.read_streams()
    for row in rows:
        stream = streams[keys[row.user_id]]
        stream[0] += 1
        row.seq = stream[0]
        if isinstance(row, Notification):
            row.raised, row.counted = row.seq, True
            stream[1] += 1
    bulk.update(Stream, ("head", "unread"), ("user_id",), [(*streams[key], key) for key in keys.values()])
    ring(keys)


def replaces(notifications: Iterable[Notification]) -> bool:
    """Whether one of these, not written yet, has the key of an unread one, which is archived as it is numbered."""
    pairs = [(_to_db(notification.user_id), notification.key) for notification in notifications]
    if not pairs:
        return False
    # CROSS JOIN and the words of the index: see ``keyed``. What waits for its number counts too.
    with connection().cursor() as cursor:
        cursor.execute(
            f"WITH wanted (user_key, text) AS (VALUES {', '.join(['(%s, %s)'] * len(pairs))}) "
            "SELECT EXISTS (SELECT 1 FROM wanted CROSS JOIN notifications_notification r "
            "WHERE r.user_id = wanted.user_key AND r.key = wanted.text AND NOT (r.key = '') "
            "AND r.read_at IS NULL AND r.archived_at IS NULL)",
            [part for pair in pairs for part in pair],
        )
        return bool(cursor.fetchone()[0])


def raise_floors(floors: dict[Any, int]) -> None:
    """Say up to which seq rows of these users (keys) may be gone: the last act of the transaction that deletes them."""
    db = connection()
    with db.cursor() as cursor:
        for user in sorted(floors):
            cursor.execute(
                "UPDATE notifications_stream SET floor = %s WHERE user_id = %s AND floor < %s",
                [floors[user], _to_db(user), floors[user]],
            )


def raise_guard(user: Any) -> None:
    """Hint that sessions of a user (key) may have ended: whoever serves that user's sockets reads them again.

    In a transaction of its own, after the commit of a caller's.
    """

    def change() -> None:
        with connection().cursor() as cursor:
            cursor.execute(
                "INSERT INTO notifications_stream (user_id, head, floor, unread, guard) VALUES (%s, 0, 0, 0, 1) "
                "ON CONFLICT (user_id) DO UPDATE SET guard = notifications_stream.guard + 1",
                [_to_db(user)],
            )
        ring([user])

    after_commit(lambda: ours(change))


def miscounted() -> dict[Any, tuple[int, int]]:
    """Return the users (keys) whose unread count is wrong, with the count and what it should be. Reads everything."""
    with connection().cursor() as cursor:
        # One statement: both are as of one moment. What waits for its number is not counted yet, or no longer.
        cursor.execute(
            "SELECT s.user_id, s.unread, coalesce(n.counted, 0) + coalesce(n.drift, 0) FROM notifications_stream s "
            "LEFT JOIN (SELECT user_id, sum(CASE WHEN counted THEN 1 ELSE 0 END) AS counted, "
            "sum(CASE WHEN seq IS NULL OR counted = (read_at IS NULL AND archived_at IS NULL) THEN 0 "
            "WHEN counted THEN -1 ELSE 1 END) AS drift "
            "FROM notifications_notification GROUP BY user_id) n ON n.user_id = s.user_id "
            "WHERE s.unread <> coalesce(n.counted, 0) OR coalesce(n.drift, 0) <> 0 ORDER BY s.user_id"
        )
        return {_from_db(user): (unread, right) for user, unread, right in cursor.fetchall()}


def recount(user: Any) -> None:
    """Make the unread count of a user (key) right, which somebody put wrong past this app."""
    is_open = Q(read_at__isnull=True, archived_at__isnull=True)
    wrong = Notification.objects.using(database()).filter(
        (is_open & Q(counted=False)) | (~is_open & Q(counted=True)), user=user, seq__isnull=False
    )

    def change() -> None:
        # Numbered again, as if it had just changed, each is counted right. A row that somebody holds is being numbered.
        rows = wrong.order_by("id")
        if connection().features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True, no_key=True)
        Notification.objects.using(database()).filter(id__in=[row.id for row in rows.only("id")]).update(
            seq=None
        )

    def count() -> None:
        db = connection()
        with db.cursor() as cursor:
            _Pass(cursor, db, [user]).lock_streams()
            cursor.execute(  # a later statement: see ``_Pass.run``
                "UPDATE notifications_stream SET unread = (SELECT count(*) FROM notifications_notification "
                "WHERE user_id = %s AND counted) WHERE user_id = %s",
                [_to_db(user)] * 2,
            )
        ring([user])

    ours(change)
    number([user])
    ours(count)


def leftovers() -> None:
    """Number what a killed process, a row locked at the time, or a host's failing hook has left; of all users.

    Every server and worker process calls this once a second.
    """
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT user_id FROM notifications_notification WHERE seq IS NULL "
            "UNION SELECT user_id FROM notifications_job WHERE seq IS NULL LIMIT 1000"
        )
        users = [_from_db(user) for (user,) in cursor.fetchall()]
    _number_all(users)
    _prune_rings()


def ring(users: Iterable[Any], *, queue: bool = False) -> None:
    """Hint, after the commit, that these streams (and the job queue) have something new. Says who, never what."""
    keys = list(dict.fromkeys(user for user in users if user is not None))
    if not keys and not queue:
        return
    db = connection()
    if db.vendor == "sqlite":
        rows = [_to_db(user) for user in keys] + [None] * queue
        row = f"(%s, {process()})"
        with db.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO notifications_ring (user_id, origin) VALUES {', '.join([row] * len(rows))}",
                rows,
            )
    together_after_commit("rings", (keys, queue), _send)


def _send(told: list[tuple[list[Any], bool]]) -> None:
    users = list(dict.fromkeys(user for keys, _ in told for user in keys))
    rung.send_robust(sender=None, users=users, queue=any(queue for _, queue in told))


def epoch() -> str:
    """Return the life of all sequences of this database; on PostgreSQL it ends with the timeline of the WAL, so that a
    failover that lost commits begins a new one by itself."""
    db = connection()
    timeline = ""
    if db.vendor == "postgresql":
        timeline = (
            ", CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
        )
    with db.cursor() as cursor:
        cursor.execute(f"SELECT value{timeline} FROM notifications_epoch WHERE id = 1")
        row = cursor.fetchone()
        if row is None:
            cursor.execute(
                "INSERT INTO notifications_epoch (id, value) VALUES (1, %s) ON CONFLICT (id) DO NOTHING",
                [Epoch._meta.get_field("value").get_db_prep_value(uuid.uuid4(), db)],
            )
            return epoch()
    return "-".join(str(part).lower() for part in (uuid.UUID(str(row[0])), *row[1:]))


def begin_epoch() -> str:
    """Begin a new life of all sequences and return it: every client then starts from a snapshot."""
    epoch()  # the row is there now

    def change() -> None:
        field: Any = Epoch._meta.get_field("value")
        with connection().cursor() as cursor:
            cursor.execute(
                "UPDATE notifications_epoch SET value = %s WHERE id = 1",
                [field.get_db_prep_value(uuid.uuid4(), connection())],
            )

    ours(change)
    return epoch()


def purge(user: Any) -> int:
    """Delete everything of a user (key) that was deleted; return how many rows of jobs and notifications."""
    deleted = 0
    while count := paced(lambda: purge_chunk(user)):
        deleted += count
    return deleted


def purge_chunk(user: Any) -> int:
    """Delete, inside a transaction, some rows of a user (key) that was deleted; at last the stream. Return how many."""
    key = _to_db(user)
    with connection().cursor() as cursor:
        for table in ("notifications_job", "notifications_notification"):
            # Chosen first and then put in order: of many rows only these few are sorted.
            cursor.execute(
                f"SELECT id FROM {table} WHERE id IN "
                f"(SELECT id FROM {table} WHERE user_id = %s LIMIT {CHUNK}) ORDER BY id{_lock()}",
                [key],
            )
            ids = [row[0] for row in cursor.fetchall()]
            if ids:
                marks = ", ".join(["%s"] * len(ids))
                if table == "notifications_job":
                    cursor.execute(f"DELETE FROM notifications_attempt WHERE job_id IN ({marks})", ids)
                cursor.execute(f"DELETE FROM {table} WHERE id IN ({marks})", ids)
                return len(ids)
        cursor.execute("DELETE FROM notifications_stream WHERE user_id = %s", [key])
    ring([user])
    return 0


def purge_gone() -> int:
    """Purge what is left of users that do not exist any more; return how many rows of jobs and notifications.

    A process killed between the deletion and its purge leaves everything, a job that notifies later leaves a stream.
    Does nothing where the users are in another database.
    """
    return sum(purge(user) for some in gone() for user in some)


def gone() -> Iterator[list[Any]]:
    """Yield the keys of users that do not exist any more and have a stream, those among a few streams at a time."""
    model, alias = get_user_model(), database()
    if router.db_for_write(model) != alias:
        return
    last = None
    while True:
        streams = Stream.objects.using(alias).order_by("user_id")
        if last is not None:
            streams = streams.filter(user_id__gt=last)
        keys = list(streams.values_list("user_id", flat=True)[:STREAMS_AT_ONCE])
        # Read after the streams, as a user is there before a stream; by no manager of the host, which may hide some.
        there = set(QuerySet(model, using=alias).filter(pk__in=keys).values_list("pk", flat=True))
        yield [key for key in keys if key not in there]
        if len(keys) < STREAMS_AT_ONCE:
            return
        last = keys[-1]


def _number_all(users: Iterable[Any], more: bool = False) -> None:
    ordered = sorted(users)
    for start in range(0, len(ordered), USERS_AT_ONCE):
        some = ordered[start : start + USERS_AT_ONCE]
        follows = more or start + USERS_AT_ONCE < len(ordered)
        while paced(lambda some=some: number_here(some), more=follows):  # type: ignore[misc]
            pass


@dataclass(slots=True, eq=False)
class _Row:
    table: str
    id: Any
    user: Any
    raised: int | None = None
    counted: bool = False
    open: bool = False
    key: str = ""
    seq: int | None = None
    archived: bool = False


class _Pass:
    """One pass over the rows that wait for a number."""

    def __init__(self, cursor: CursorWrapper, db: Any, users: list[Any]) -> None:
        self.cursor = cursor
        self.db = db
        self.users = [_to_db(user) for user in users]
        self.marks = ", ".join(["%s"] * len(users))
        self.limit = 100 if db.vendor == "sqlite" else 200

    def run(self) -> bool:
        self.lock_streams()
        # A later statement: one that locked and read at once would read from a snapshot older than its lock, and number
        # rows twice.
        rows, open_rows, blocked = self.take_free()
        if not rows:
            return False
        streams = self.read_streams()
        numbered: dict[Any, _Row] = {}
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
        self.write(list(numbered.values()), streams)
        return bool(numbered) and len(rows) >= self.limit

    def lock_streams(self) -> None:
        """Create or lock the streams in one order. The WHERE is never true: nothing is written to an existing one."""
        values = ", ".join(["(%s, 0, 0, 0, 0)"] * len(self.users))
        self.cursor.execute(
            f"INSERT INTO notifications_stream (user_id, head, floor, unread, guard) VALUES {values} "
            "ON CONFLICT (user_id) DO UPDATE SET head = notifications_stream.head WHERE notifications_stream.head < 0",
            self.users,
        )

    def take_free(self) -> tuple[list[_Row], dict[tuple[Any, str], list[_Row]], set[tuple[Any, str]]]:
        """Take rows, and what ``keyed`` finds for them. Those that must wait for a locked one never fill the pass: they
        would stall all others."""
        passed: set[tuple[Any, str]] = set()
        while True:
            rows = self.take(passed)
            open_rows, blocked = self.keyed(rows)
            if not blocked or len(rows) < self.limit:
                return rows, open_rows, blocked
            passed |= blocked

    def take(self, passed: set[tuple[Any, str]]) -> list[_Row]:
        """Take the rows without a number, by id. Whoever holds streams waits for no row: locked ones are left.

        New rows of the users and keys in ``passed`` are left too.
        """
        where = f"WHERE user_id IN ({self.marks}) AND seq IS NULL"
        tail = f"ORDER BY id LIMIT {self.limit}{_lock(skip=True)}"
        self.cursor.execute(
            "SELECT id, user_id, raised, counted, read_at IS NULL AND archived_at IS NULL, key "
            f"FROM notifications_notification {where}"
            f"{' AND NOT (raised IS NULL AND user_id = %s AND key = %s)' * len(passed)} {tail}",
            [*self.users, *(part for pair in passed for part in pair)],
        )
        rows = [
            _Row("notifications_notification", id, user, raised, bool(counted), bool(is_open), key)
            for id, user, raised, counted, is_open, key in self.cursor.fetchall()
        ]
        self.cursor.execute(f"SELECT id, user_id FROM notifications_job {where} {tail}", self.users)
        rows += [_Row("notifications_job", id, user) for id, user in self.cursor.fetchall()]
        rows.sort(key=lambda row: row.id)
        return rows[: self.limit]

    def read_streams(self) -> dict[Any, list[int]]:
        self.cursor.execute(
            f"SELECT user_id, head, unread FROM notifications_stream WHERE user_id IN ({self.marks})",
            self.users,
        )
        return {user: [head, unread] for user, head, unread in self.cursor.fetchall()}

    def keyed(self, rows: list[_Row]) -> tuple[dict[tuple[Any, str], list[_Row]], set[tuple[Any, str]]]:
        """Find the open rows that new ones with the same key archive, and the keys of which one is locked elsewhere."""
        new = {(row.user, row.key) for row in rows if row.key and row.raised is None}
        if not new:
            return {}, set()
        users, keys = sorted({user for user, _ in new}), sorted({key for _, key in new})
        # In the words of the index of keys, and with nothing that has SQLite take another: it would read whole inboxes.
        query = (
            "SELECT id, user_id, raised, counted, key FROM notifications_notification "
            f"WHERE user_id IN ({', '.join(['%s'] * len(users))}) AND key IN ({', '.join(['%s'] * len(keys))}) "
            "AND NOT (key = '') AND read_at IS NULL AND archived_at IS NULL AND +raised IS NOT NULL"
        )
        self.cursor.execute(query, [*users, *keys])
        visible = {row[0]: row for row in self.cursor.fetchall()}
        held = visible
        if visible and self.db.features.has_select_for_update_skip_locked:
            self.cursor.execute(f"{query} ORDER BY id{_lock(skip=True)}", [*users, *keys])
            held = {row[0]: row for row in self.cursor.fetchall()}
        here = {row.id: row for row in rows}
        found: dict[tuple[Any, str], list[_Row]] = {}
        for _, (id, user, raised, counted, key) in sorted(held.items()):
            row = here.get(id) or _Row(
                "notifications_notification", id, user, raised, bool(counted), True, key
            )
            found.setdefault((user, key), []).append(row)
        return found, {(user, key) for id, (_, user, _, _, key) in visible.items() if id not in held}

    def supersede(self, row: _Row, stream: list[int], numbered: dict[Any, _Row]) -> None:
        row.open = False
        row.archived = True
        if row.id in numbered:
            if row.counted:
                stream[1] -= 1
                row.counted = False
        else:
            self.give(row, stream, numbered)

    def give(self, row: _Row, stream: list[int], numbered: dict[Any, _Row]) -> None:
        if row.id in numbered:
            return
        stream[0] += 1
        row.seq = stream[0]
        if row.table == "notifications_notification":
            row.raised = row.raised or row.seq
            stream[1] += row.open - row.counted
            row.counted = row.open
        numbered[row.id] = row

    def write(self, rows: list[_Row], streams: dict[Any, list[int]]) -> None:
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
                [self.db.ops.adapt_datetimefield_value(timezone.now()), *archived],
            )
        jobs = [(row.seq, row.id) for row in rows if row.table == "notifications_job"]
        bulk.update(Job, ("seq",), ("id",), jobs)
        moved = list(dict.fromkeys(row.user for row in rows))
        bulk.update(Stream, ("head", "unread"), ("user_id",), [(*streams[user], user) for user in moved])
        ring(_from_db(user) for user in moved)


def _lock(*, skip: bool = False) -> str:
    """The clause that locks rows: NO KEY, because FOR UPDATE would collide with the key-share locks of foreign keys."""
    if not connection().features.has_select_for_update_skip_locked:
        return ""
    return " FOR NO KEY UPDATE SKIP LOCKED" if skip else " FOR NO KEY UPDATE"


def _prune_rings() -> None:
    db = connection()
    if db.vendor != "sqlite":
        return
    with db.cursor() as cursor:
        # Two look-ups: SQLite reads the whole table for min and max in one.
        cursor.execute(
            "SELECT (SELECT min(id) FROM notifications_ring), (SELECT max(id) FROM notifications_ring)"
        )
        first, last = cursor.fetchone()
        if first is None or last - first < 2 * RINGS_KEPT:
            return
    ours(lambda: db.cursor().execute("DELETE FROM notifications_ring WHERE id <= %s", [last - RINGS_KEPT]))


def _to_db(user: Any) -> Any:
    return Stream._meta.pk.get_db_prep_value(user, connection())


def _from_db(user: Any) -> Any:
    return Stream._meta.pk.target_field.to_python(user)

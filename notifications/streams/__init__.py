"""Numbering: the one act that orders everything, and the one place where streams are locked.

A writer never touches a stream. It inserts or changes rows with ``seq`` NULL; at the end of our own
transaction, or after the commit of a caller's, ``number`` gives them the next positions of their user's
stream. So the order of commits is the order of ``seq``, a rollback leaves no hole, and nobody ever sees n+1
without n.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from notifications.db import bulk
from notifications.db.transactions import (
    connection,
    execute_many,
    fair_atomic,
    in_callers_transaction,
    on_commit,
    on_commit_merged,
    retrying_atomic,
)
from notifications.db.user_keys import from_db, to_db
from notifications.ids import process
from notifications.models import Epoch, Notification, Stream
from notifications.signals import rung
from notifications.streams.numbering import HAS_OPEN_KEY, KEY_OWNER, Pass

#: Streams locked by one transaction at most.
MAX_STREAMS_LOCKED = 100
#: Rows of ``Ring`` that are kept.
MAX_RINGS_KEPT = 5_000


def number(users: Iterable[Any], *, more: bool = False) -> None:
    """Give their ``seq`` to all changed rows of these users (keys), each a position of its own.

    Inside a caller's atomic block this is put off until after its commit. ``more`` says that the caller goes on
    writing: SQLite's lock is left to others before this returns.
    Raises ``django.db.OperationalError`` when the database stays busy; the rows are then numbered within a second by
    ``number_pending`` of any process.
    """
    users = set(users)
    db = connection()
    if not in_callers_transaction(db):
        return _number_all(users, more)
    on_commit_merged("numbering", users, lambda told: _number_all(set().union(*told)))


def number_here(users: Iterable[Any]) -> bool:
    """Number at most one pass of rows of these users, in the transaction of our own that is open now, as its last act.

    Returns True when the pass was full: then call ``number`` after the commit, more may wait.
    """
    ordered = sorted(set(users))
    if not ordered:
        return False
    db = connection()
    with db.cursor() as cursor:
        moved, more = Pass(cursor, db, ordered).run()
    if moved:
        ring(moved)
    return more


def number_new(rows: Iterable[Any]) -> bool:
    """Give their first numbers, in this order, to jobs and notifications that are about to be written.

    In a transaction of our own that writes them next and then ends, without waiting for anybody: it holds the streams.
    Returns False, and gives none, where a notification has the key of an unread one, which is archived as it is
    numbered.
    """
    rows = list(rows)
    if not rows:
        return True
    db = connection()
    keys = {user: to_db(user) for user in sorted({row.user_id for row in rows})}
    notices = [row for row in rows if isinstance(row, Notification)]
    with db.cursor() as cursor:
        one = Pass(cursor, db, list(keys))
        # Later statements: one that locked and read at once would read from a snapshot older than its lock.
        _, [(replaces,)], found = execute_many([one.locking(), _replacing(notices), one.reading()])
    if replaces:
        return False
    streams = {from_db(user): [head, unread] for user, head, unread in found}
    for row in rows:
        stream = streams[row.user_id]
        stream[0] += 1
        row.seq = stream[0]
        if isinstance(row, Notification):
            row.raised, row.counted = row.seq, True
            stream[1] += 1
    bulk.update(
        Stream, ("head", "unread"), ("user_id",), [(*streams[user], key) for user, key in keys.items()]
    )
    ring(keys)
    return True


def _replacing(notifications: Sequence[Notification]) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, whether one of these, not written yet, has the key of an unread one."""
    if not notifications:
        return "SELECT false", []
    keys = [(to_db(notification.user_id), notification.key) for notification in notifications]
    wanted, params = bulk.values(Notification, ("user_id", "key"), keys)
    # A subquery, or PostgreSQL might read the keys of everybody. What waits for its number counts too.
    open_one = (
        f"SELECT 1 FROM notifications_notification WHERE {KEY_OWNER} = wanted.user_key AND key = wanted.text "
        f"AND {HAS_OPEN_KEY} LIMIT 1"
    )
    return (
        f"WITH wanted (user_key, text) AS ({wanted}) SELECT EXISTS (SELECT 1 FROM wanted WHERE ({open_one}) = 1)",
        params,
    )


def raise_floors(floors: dict[Any, int]) -> None:
    """Say up to which seq rows of these users (keys) may be gone: the last act of the transaction that deletes them."""
    db = connection()
    with db.cursor() as cursor:
        for user in sorted(floors):
            cursor.execute(
                "UPDATE notifications_stream SET floor = %s WHERE user_id = %s AND floor < %s",
                [floors[user], to_db(user), floors[user]],
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
                [to_db(user)],
            )
        ring([user])

    on_commit(lambda: retrying_atomic(change))


def read_later(user: Any, after: int, up_to: int) -> None:
    """Note that what was raised above ``after`` and up to ``up_to`` for a user (key) is to be marked as read.

    ``marking.continue_marking`` does so in any process.
    """

    def change() -> None:
        with connection().cursor() as cursor:
            cursor.execute(
                "UPDATE notifications_stream SET read_after = %s, "
                "read_up_to = CASE WHEN read_up_to > %s THEN read_up_to ELSE %s END WHERE user_id = %s",
                [after, up_to, up_to, to_db(user)],
            )

    retrying_atomic(change)


def being_read(user: Any = None) -> list[tuple[Any, int, int]]:
    """Return what ``read_later`` has noted and is not done, as (user key, after, up_to).

    Of one user, or of the 100 users of whom least is done.
    """
    mine, params = ("AND user_id = %s ", [to_db(user)]) if user is not None else ("", [])
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT user_id, read_after, read_up_to FROM notifications_stream WHERE read_up_to IS NOT NULL "
            f"{mine}ORDER BY read_after, user_id LIMIT 100",
            params,
        )
        return [(from_db(key), after, up_to) for key, after, up_to in cursor.fetchall()]


def read_on(user: Any, after: int, up_to: int, position: int | None) -> None:
    """Note that what was raised up to ``position`` is marked, None: everything. In the transaction that marked it.

    Nothing changes where another process has gone on, or another request was made, since ``being_read``.
    """
    left = [None, None] if position is None else [position, up_to]
    with connection().cursor() as cursor:
        cursor.execute(
            "UPDATE notifications_stream SET read_after = %s, read_up_to = %s "
            "WHERE user_id = %s AND read_after = %s AND read_up_to = %s",
            [*left, to_db(user), after, up_to],
        )


def number_pending() -> None:
    """Number what a killed process, a row locked at the time, or a host's failing hook has left; of all users.

    Every server and worker process calls this once a second.
    """
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT user_id FROM notifications_notification WHERE seq IS NULL "
            "UNION SELECT user_id FROM notifications_job WHERE seq IS NULL LIMIT 1000"
        )
        users = [from_db(user) for (user,) in cursor.fetchall()]
    _number_all(users)
    _prune_rings()


def ring(users: Iterable[Any], *, queue: bool = False) -> None:
    """Hint, after the commit, that these streams (and the job queue) have something new. Says who, never what."""
    keys = list(dict.fromkeys(user for user in users if user is not None))
    if not keys and not queue:
        return
    db = connection()
    if db.vendor == "sqlite":
        rows = [to_db(user) for user in keys] + [None] * queue
        row = f"(%s, {process()})"
        with db.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO notifications_ring (user_id, origin) VALUES {', '.join([row] * len(rows))}",
                rows,
            )
    on_commit_merged("rings", (keys, queue), _send)


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

    retrying_atomic(change)
    return epoch()


def _number_all(users: Iterable[Any], more: bool = False) -> None:
    ordered = sorted(users)
    for start in range(0, len(ordered), MAX_STREAMS_LOCKED):
        some = ordered[start : start + MAX_STREAMS_LOCKED]
        follows = more or start + MAX_STREAMS_LOCKED < len(ordered)
        while fair_atomic(lambda some=some: number_here(some), more=follows):  # type: ignore[misc]
            pass


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
        if first is None or last - first < 2 * MAX_RINGS_KEPT:
            return
    retrying_atomic(
        lambda: db.cursor().execute("DELETE FROM notifications_ring WHERE id <= %s", [last - MAX_RINGS_KEPT])
    )

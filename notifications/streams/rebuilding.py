"""Find and rebuild streams whose positions do not agree with their rows, as after data were moved without them.

Each position of a stream belongs to one row, as its ``seq`` or ``raised``, and none lies above the head. Rows above the
head are not shown, and new rows get positions that they have already. After another program has changed rows, the
unread and unseen counts of a stream are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db.backends.utils import CursorWrapper
from django.db.models import Q

from notifications.db.adapters import user_from_db, user_to_db
from notifications.db.bulk import lock_query, lock_sql
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.models import Notification
from notifications.streams import number, ring
from notifications.streams.marking_seen import count_unseen_sql
from notifications.streams.numbering import Pass, unnumbered_index

TABLES = ("notifications_notification", "notifications_job")


class Counts(NamedTuple):
    """The counts of a stream."""

    unread: int
    unseen: int


def find_wrong_streams(max_rows: int | None = None) -> list[Any]:
    """Return the users (keys) of streams with a row above the head, two rows at one position, or a wrong ``seen``.

    ``max_rows``
        Compares at most so many streams with their rows and marks, and as many of the newest rows of each kind with
        those that have their positions as ``seq``: quickly, however many rows there are. By default all are compared.
    """
    wrong = [
        "SELECT user_id FROM positions GROUP BY user_id, position HAVING count(*) > 1",
        "SELECT p.user_id FROM positions p LEFT JOIN notifications_stream s ON s.user_id = p.user_id "
        "WHERE p.position > coalesce(s.head, 0)",
    ]
    limit = "" if max_rows is None else f"ORDER BY user_id LIMIT {max_rows}"
    sampled_streams = f"(SELECT user_id, head, seen FROM notifications_stream {limit}) s"
    # Each move of ``seen`` has a mark, of which the oldest are pruned first.
    wrong.append(
        f"SELECT user_id FROM {sampled_streams} "
        "WHERE seen <> (SELECT max(up_to) FROM notifications_seenmark m WHERE m.user_id = s.user_id)"
    )
    if max_rows is not None:
        wrong += [
            f"SELECT p.user_id FROM positions p JOIN {table} o "
            "ON o.user_id = p.user_id AND o.seq = p.position AND o.id <> p.id"
            for table in TABLES
        ]
        wrong += [
            f"SELECT user_id FROM {sampled_streams} "
            f"WHERE head < (SELECT max(o.seq) FROM {table} o WHERE o.user_id = s.user_id)"
            for table in TABLES
        ]
    newest = "" if max_rows is None else f"ORDER BY id DESC LIMIT {max_rows}"
    with connection().cursor() as cursor:
        # One statement, so that all are from one snapshot.
        cursor.execute(f"WITH {_positions(newest)} {' UNION '.join(wrong)}")
        return sorted(user_from_db(user) for (user,) in cursor.fetchall())


def rebuild(user: Any) -> tuple[int, int, int]:
    """Make head, positions, ``seen`` and counts of a user (key) agree with the rows and marks.

    Returns the head before and after, and how many rows got a new position.

    The head moves to the last position, or mark. Of rows at one position the oldest keeps it, and the others move
    to the end, in the order of their ids. Rows that are locked elsewhere stay as they are. Positions of clients mean
    nothing after it: begin a new epoch.
    """
    rebuilt = retrying_atomic(lambda: _rebuild_positions(user))
    recount(user)
    return rebuilt


def find_wrong_counts(max_rows: int | None = None) -> dict[Any, tuple[Counts, Counts]]:
    """Return the users (keys) with a wrong unread or unseen count, with their counts as stored, and as they should be.

    ``max_rows``
        Reads at most so many streams and unread notifications, those of the first users, as many pending
        notifications, and a tenth as many of the newest ones, of which each must be counted if it is unread: quickly,
        however many notifications there are. By default all are read.
    """
    is_unread = "read_at IS NULL AND archived_at IS NULL"
    limit, newest, is_reached = "", "", "1 = 1"
    if max_rows is not None:
        limit, newest = f"LIMIT {max_rows}", f"ORDER BY id DESC LIMIT {max_rows // 10}"
        # Of the last user that was reached not all rows are known.
        is_reached = f"(reached.count < {max_rows} OR s.user_id < reached.last)"
    with connection().cursor() as cursor:
        # One statement, so that all are from one snapshot.
        cursor.execute(
            f"""
            WITH unread AS (
                SELECT user_id, raised FROM notifications_notification
                WHERE {is_unread} ORDER BY user_id, raised {limit}
            ), pending AS (
                SELECT user_id, raised,
                    CASE WHEN counted THEN 1 ELSE 0 END - CASE WHEN {is_unread} THEN 1 ELSE 0 END AS weight
                FROM notifications_notification{unnumbered_index("n")} WHERE seq IS NULL {limit}
            ), newest AS (
                SELECT user_id, seq, counted, {is_unread} AS is_unread FROM notifications_notification {newest}
            ), streams AS (
                SELECT user_id, unread, unseen, seen FROM notifications_stream ORDER BY user_id {limit}
            ), expected AS (
                SELECT n.user_id, sum(n.weight) AS unread,
                    sum(CASE WHEN n.raised > s.seen THEN n.weight ELSE 0 END) AS unseen
                FROM (SELECT user_id, raised, 1 AS weight FROM unread UNION ALL SELECT * FROM pending) n
                JOIN streams s ON s.user_id = n.user_id GROUP BY n.user_id
            ), reached AS (SELECT count(*) AS count, max(user_id) AS last FROM unread)
            SELECT s.user_id, s.unread, s.unseen, coalesce(e.unread, 0), coalesce(e.unseen, 0)
            FROM streams s CROSS JOIN reached LEFT JOIN expected e ON e.user_id = s.user_id
            WHERE {is_reached} AND (
                s.unread <> coalesce(e.unread, 0) OR s.unseen <> coalesce(e.unseen, 0) OR s.user_id IN (
                    SELECT user_id FROM newest WHERE seq IS NOT NULL AND counted <> is_unread
                )
            ) ORDER BY s.user_id
            """
        )
        rows: Iterable[tuple[Any, ...]] = cursor.fetchall()
    return {
        user_from_db(user): (Counts(unread, unseen), Counts(int(right_unread), int(right_unseen)))
        for user, unread, unseen, right_unread, right_unseen in rows
    }


def recount(user: Any) -> None:
    """Correct the unread and unseen counts of a user (key)."""
    is_open = Q(read_at__isnull=True, archived_at__isnull=True)
    wrong = Notification.objects.using(database()).filter(
        (is_open & Q(counted=False)) | (~is_open & Q(counted=True)), user=user, seq__isnull=False
    )

    def mark_pending() -> None:
        # Numbering counts each of these rows, as if it had just changed. Locked rows are being numbered already.
        ids = [row.id for row in lock_query(wrong.order_by("id").only("id"))]
        Notification.objects.using(database()).filter(id__in=ids).update(seq=None)

    def count() -> None:
        db = connection()
        with db.cursor() as cursor:
            Pass(cursor, db, [user]).lock_streams()
            cursor.execute(  # a statement after the lock: see ``Pass.run``
                "UPDATE notifications_stream SET "
                "unread = (SELECT count(*) FROM notifications_notification WHERE user_id = %s AND counted), "
                f"unseen = ({count_unseen_sql('notifications_stream.user_id', 'notifications_stream.seen')}) "
                "WHERE user_id = %s",
                [user_to_db(user)] * 2,
            )
        ring([user])

    retrying_atomic(mark_pending)
    number([user])
    retrying_atomic(count)


def _rebuild_positions(user: Any) -> tuple[int, int, int]:
    db, key = connection(), user_to_db(user)
    positions = f"WITH {_positions('AND user_id = %s')}"
    with db.cursor() as cursor:
        numbering = Pass(cursor, db, [user])
        numbering.lock_streams()
        # Statements after the lock: see ``Pass.run``.
        (stream,) = numbering.read_streams().values()
        cursor.execute(f"{positions} SELECT max(position) FROM positions", [key] * len(TABLES))
        last = cursor.fetchone()[0] or 0
        cursor.execute("SELECT max(up_to) FROM notifications_seenmark WHERE user_id = %s", [key])
        seen = cursor.fetchone()[0] or 0
        head = max(stream.head, last, seen)
        cursor.execute(
            f"{positions}, ranked AS (SELECT id, position, row_number() OVER (PARTITION BY position ORDER BY id) AS n "
            "FROM positions) SELECT id, position FROM ranked WHERE n > 1 ORDER BY id, position",
            [key] * len(TABLES),
        )
        moved = 0
        for id, position in cursor.fetchall():
            if _move_row(cursor, id, position, head + 1):
                head, moved = head + 1, moved + 1
        cursor.execute(
            "UPDATE notifications_stream SET head = %s, seen = %s WHERE user_id = %s", [head, seen, key]
        )
    return stream.head, head, moved


def _move_row(cursor: CursorWrapper, id: Any, position: int, end: int) -> bool:
    """Move a row to the end of its stream, unless it is locked elsewhere or has left the position already."""
    for table in TABLES:
        is_job = table == "notifications_job"
        positions = "(seq)" if is_job else "(seq, raised)"
        cursor.execute(
            f"SELECT 1 FROM {table} WHERE id = %s AND %s IN {positions}{lock_sql()}",
            [id, position],
        )
        if cursor.fetchone():
            raised, params = (
                ("", [])
                if is_job
                else (", raised = CASE WHEN raised = %s THEN %s ELSE raised END", [position, end])
            )
            # A pending row stays pending.
            cursor.execute(
                f"UPDATE {table} SET seq = CASE WHEN seq IS NULL THEN NULL ELSE %s END{raised} WHERE id = %s",
                [end, *params, id],
            )
            return True
    return False


def _positions(tail: str) -> str:
    """Return the expression ``positions``, with user, id and position of rows; ``tail`` ends the query of each kind."""
    return (
        "notes AS (SELECT user_id, id, seq, raised FROM notifications_notification "
        f"WHERE raised IS NOT NULL {tail}), "
        "jobs AS (SELECT user_id, id, seq FROM notifications_job "
        f"WHERE user_id IS NOT NULL AND seq > 0 {tail}), "
        "positions AS (SELECT user_id, id, raised AS position FROM notes UNION ALL "
        "SELECT user_id, id, seq FROM notes WHERE seq <> raised UNION ALL SELECT user_id, id, seq FROM jobs)"
    )

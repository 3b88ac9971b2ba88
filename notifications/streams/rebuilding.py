"""Find and rebuild streams whose positions do not agree with their rows, as after data were moved without them.

Each position of a stream belongs to one row, as its ``seq`` or ``raised``, and none lies above the head. Rows above the
head are not shown, and new rows get positions that they have already.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.backends.utils import CursorWrapper

from notifications.db.transactions import connection, retrying_atomic
from notifications.db.user_keys import from_db, to_db
from notifications.streams.numbering import Pass, lock_clause
from notifications.streams.recount import recount

TABLES = ("notifications_notification", "notifications_job")


class Rebuilt(NamedTuple):
    """What ``rebuild`` has changed: the head before and after, and how many rows got a new position."""

    head_before: int
    head: int
    moved_rows: int


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
        return sorted(from_db(user) for (user,) in cursor.fetchall())


def rebuild(user: Any) -> Rebuilt:
    """Make head, positions, ``seen`` and counts of a user (key) agree with the rows and marks.

    The head moves to the last position, or mark. Of rows at one position the oldest keeps it, and the others move
    to the end, in the order of their ids. Rows that are locked elsewhere stay as they are. Positions of clients mean
    nothing after it: begin a new epoch.
    """
    rebuilt = retrying_atomic(lambda: _rebuild_positions(user))
    recount(user)
    return rebuilt


def _rebuild_positions(user: Any) -> Rebuilt:
    db, key = connection(), to_db(user)
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
    return Rebuilt(stream.head, head, moved)


def _move_row(cursor: CursorWrapper, id: Any, position: int, end: int) -> bool:
    """Move a row to the end of its stream, unless it is locked elsewhere or has left the position already."""
    for table in TABLES:
        is_job = table == "notifications_job"
        positions = "(seq)" if is_job else "(seq, raised)"
        cursor.execute(
            f"SELECT 1 FROM {table} WHERE id = %s AND %s IN {positions}{lock_clause(skip_locked=True)}",
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

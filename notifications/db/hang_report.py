"""What the threads of this process, and the sessions of the database, wait for: for the log of a process that hangs."""

from __future__ import annotations

import sys
import threading
import traceback

from notifications.db.transactions import connection

#: Frames of a thread that are shown.
MAX_FRAMES = 20
#: The sessions on this database, what each waits for, and which sessions hold what it waits for.
_SESSIONS = """
    SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid),
        clock_timestamp() - query_start, left(query, 200)
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY query_start
"""


def describe_threads() -> str:
    """Return the name and the stack of each thread of this process."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame, limit=MAX_FRAMES))}"
        for ident, frame in sys._current_frames().items()
    )


def describe_sessions() -> str:
    """Return the sessions on the database with their waits, one in each line; "" if it is not PostgreSQL."""
    db = connection()
    if db.vendor != "postgresql":
        return ""
    with db.cursor() as cursor:
        cursor.execute(_SESSIONS)
        return "\n".join(
            f"Session {pid}: {state}, waits for {kind} {event}, blocked by {blocking}, since {since}: {query}"
            for pid, state, kind, event, blocking, since, query in cursor.fetchall()
        )

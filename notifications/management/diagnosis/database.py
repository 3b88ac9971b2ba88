"""Checks of the database: connection, tables, clocks, numbering, counts, and whether the site is ready."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

from notifications import streams
from notifications.checks import SQLITE_OPTIONS
from notifications.db.deadlines import limit_answers
from notifications.db.schema import find_mismatch
from notifications.db.transactions import begins_with_lock, connection, try_write
from notifications.db.unavailable import is_query_error
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding, ms
from notifications.readiness import (
    MAX_CLOCK_SKEW_SECONDS,
    WRONG_TIMES_ADVICE,
    Missing,
    clock_skew_seconds,
    describe_wrong_times,
    find_missing,
    find_wrong_times,
    missing_indexes,
    pending_migrations,
    worker_advice,
)
from notifications.streams import rebuilding

#: Seconds within which some process must number pending changes.
NUMBERING_SECONDS = 3.0
#: Pending rows of each kind that are read, and rows of each kind by which counts and positions are checked.
MAX_PENDING_ROWS, MAX_COUNTED_ROWS, MAX_POSITIONED_ROWS = 1_000, 100_000, 10_000
#: Users with a wrong unread count or wrong positions that are named.
MAX_USERS_NAMED = 10


def check_connection() -> Finding:
    """Check that the database answers, and its options on SQLite."""
    db = connection()
    times = []
    with db.cursor() as cursor:
        for _ in range(5):
            start = time.perf_counter()
            cursor.execute("SELECT 1")
            cursor.fetchone()
            times.append(time.perf_counter() - start)
        figures: dict[str, Any] = {"vendor": db.vendor, "alias": db.alias, "ms": ms(statistics.median(times))}
        if db.vendor == "sqlite":
            cursor.execute("PRAGMA journal_mode")
            figures["journal_mode"] = cursor.fetchone()[0]
    message = f"{db.vendor} ({db.alias}) answers in {figures['ms']} ms."
    problems = []
    if figures.get("journal_mode") not in (None, "wal", "memory"):
        problems.append(
            f"Its journal mode is {figures['journal_mode']}: readers and writers block each other."
        )
    if not begins_with_lock(db):
        problems.append("A transaction that reads before it writes may fail with 'database is locked'.")
    if problems:
        return Finding(
            "database",
            WARNING,
            " ".join([message, *problems]),
            f'Add to the database in DATABASES: "OPTIONS": {SQLITE_OPTIONS}',
            figures,
        )
    return Finding("database", OK, message, figures=figures)


def check_tables() -> Finding:
    """Check that the tables are those of this version, that all migrations are applied and all indexes exist."""
    if (mismatch := find_mismatch()) and not mismatch.is_unmigrated:  # which migrate refuses too
        return Finding("tables", ERROR, mismatch.problem, mismatch.remedy)
    if missing := pending_migrations():
        return Finding(
            "tables",
            ERROR,
            f"Migrations are not applied: {', '.join(missing)}.",
            "Run manage.py migrate.",
            {"missing": missing},
        )
    if lost := sorted(missing_indexes()):
        return Finding(
            "tables",
            ERROR,
            f"Indexes are missing: {', '.join(lost)}. Queries are slow; on SQLite jobs cannot be claimed.",
            "Run their CREATE INDEX statements, which manage.py sqlmigrate prints for the app.",
            {"missing_indexes": lost},
        )
    return Finding("tables", OK, "All migrations of notifications are applied.")


def check_writes() -> Finding:
    """Check that the database takes a write: one that is read-only answers all the same."""
    try:
        with limit_answers():
            try_write()
    except Exception as exc:
        if not is_query_error(exc):
            raise
        return Finding(
            "writes",
            ERROR,
            f"The database answers, but takes no write: {' '.join(str(exc).split())[:300]}.",
            "Check which server DATABASES leads to, the rights of its user, and free space on its disk. With several "
            'servers of PostgreSQL set "target_session_attrs": "read-write" in OPTIONS.',
        )
    return Finding("writes", OK, "The database takes writes.")


def check_clock() -> Finding:
    """Check that the clock of the database, which leases use, agrees with the clock of this machine."""
    skew = clock_skew_seconds()
    figures = {"seconds": round(skew, 3)}
    if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
        return Finding(
            "clock",
            WARNING,
            f"The clock of the database differs by {skew:+.1f} s from the clock of this machine.",
            "Synchronize both by NTP. Until then times in the inbox and of delayed jobs are wrong.",
            figures,
        )
    return Finding(
        "clock", OK, "The clock of the database agrees with the clock of this machine.", figures=figures
    )


def check_stored_times() -> Finding:
    """Check that nothing waits longer than it was meant to, because a clock was fast when it was stored."""
    if wrong := list(find_wrong_times()):
        return Finding("times", ERROR, describe_wrong_times(wrong), WRONG_TIMES_ADVICE, {"wrong": wrong})
    return Finding("times", OK, "Nothing waits for a time that was stored while a clock was wrong.")


def check_numbering() -> Finding:
    """Check that pending changes are numbered, which each web process and each worker does once a second."""
    pending = streams.find_pending(MAX_PENDING_ROWS)
    until = time.monotonic() + NUMBERING_SECONDS
    while (left := pending & streams.find_pending(MAX_PENDING_ROWS)) and time.monotonic() < until:
        time.sleep(0.25)
    if left:
        return Finding(
            "numbering",
            ERROR,
            f"{len(left)} changes were not numbered within {NUMBERING_SECONDS:g} s, so they are not shown.",
            "Start a web process or a worker. If one is running, find the transaction that locks their rows.",
            {"waiting": len(left)},
        )
    return Finding("numbering", OK, "All changes are numbered.", figures={"waiting": 0})


def check_positions() -> Finding:
    """Check streams against their rows, as far as a bounded read shows: none above the head, no two at one position."""
    wrong = rebuilding.find_wrong_streams(MAX_POSITIONED_ROWS)
    if wrong:
        return Finding(
            "positions",
            ERROR,
            "Rows are hidden, share a position, or count wrongly as seen, because streams do not agree with "
            f"them, for {len(wrong)} users: {name_users(wrong)}.",
            "Stop the site, and run manage.py notifications doctor --recount.",
            {"wrong": list(map(str, wrong))},
        )
    message = f"Streams agree with their rows, by at most {MAX_POSITIONED_ROWS:,} streams and new rows of each kind."
    return Finding("positions", OK, message)


def name_users(users: Iterable[Any]) -> str:
    """Return the first of these users (keys) as text."""
    named = list(map(str, users))
    return ", ".join(named[:MAX_USERS_NAMED]) + (" and others" if len(named) > MAX_USERS_NAMED else "")


def check_unread_counts() -> Finding:
    """Check the unread and unseen counts of users against their notifications, as far as a bounded read shows."""
    wrong = rebuilding.find_wrong_counts(MAX_COUNTED_ROWS)
    if wrong:
        return Finding(
            "unread",
            ERROR,
            f"The unread or unseen count is wrong for {len(wrong)} users: {name_users(wrong)}.",
            "Run manage.py notifications doctor --recount. "
            "Then find the program that changes rows without this app.",
            {
                "wrong": {
                    str(user): {
                        "unread": [stored.unread, expected.unread],
                        "unseen": [stored.unseen, expected.unseen],
                    }
                    for user, (stored, expected) in wrong.items()
                }
            },
        )
    message = f"No unread or unseen count is wrong, by at most {MAX_COUNTED_ROWS:,} unread notifications."
    return Finding("unread", OK, message)


REMEDIES = {
    Missing.DATABASE: "Check DATABASES, and whether the database server runs and takes writes.",
    Missing.MIGRATIONS: "Run manage.py migrate.",
    Missing.SETTINGS: "Correct TASKS or NOTIFICATIONS, then run manage.py check.",
}


def check_readiness() -> Finding:
    """Check that the database answers, that the migrations are applied, and that a worker is alive."""
    try:
        with limit_answers():
            mismatch = find_mismatch()
            found = find_missing()
    except Exception as exc:  # a wrong TASKS or NOTIFICATIONS may raise anything
        if is_query_error(exc):
            raise
        found, mismatch = (Missing.SETTINGS, " ".join(f"{type(exc).__name__}: {exc}".split())[:300]), None
    if mismatch and not mismatch.is_unmigrated:
        message = f"Not ready because of the {Missing.MIGRATIONS}: {mismatch.problem}"
        return Finding("ready", ERROR, message, mismatch.remedy, {"missing": Missing.MIGRATIONS})
    if found:
        missing, reason = found
        return Finding(
            "ready",
            ERROR,
            f"Not ready because of the {missing}: {reason}.",
            worker_advice() if missing == Missing.WORKER else REMEDIES[missing],
            {"missing": missing},
        )
    message = "The database answers, the migrations are applied, and no worker is known to be missing."
    return Finding("ready", OK, message)

"""Checks of the database: connection, tables, numbering, counts, and whether the site is ready."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import ERROR, CheckMessage, Error, Info, Tags, Warning, run_checks

from notifications import streams
from notifications.checks import SQLITE_OPTIONS
from notifications.db import missing_tables
from notifications.db.schema import find_mismatch
from notifications.db.transactions import connection, database, dialect, try_write
from notifications.db.unavailable import OUTAGES, is_query_error
from notifications.jobs.claiming.backlog import queue_depths
from notifications.jobs.claiming.waiting_reasons import describe_depths
from notifications.management.diagnosis.checking import Examination, explain, register
from notifications.readiness import Missing, find_missing, pending_migrations
from notifications.streams import rebuilding

#: Seconds within which some process must number pending changes.
NUMBERING_SECONDS = 3.0
#: Pending rows of each kind that are read, and rows of each kind by which counts and positions are checked.
MAX_PENDING_ROWS, MAX_COUNTED_ROWS, MAX_POSITIONED_ROWS = 1_000, 100_000, 10_000
#: Users with a wrong unread count or wrong positions that are named.
MAX_USERS_NAMED = 10


@register(Tags.database, "database")
def check_connection(examination: Examination) -> Iterator[CheckMessage]:
    """Check that the database answers, and its options on SQLite."""
    db = connection()
    with db.cursor() as cursor:
        cursor.execute("SELECT 1")
    name = dialect().name
    figures: dict[str, Any] = {"vendor": name, "alias": db.alias, **dialect().read_options(db)}
    message = f"{name} ({db.alias}) answers."
    problems = []
    if figures.get("journal_mode") not in (None, "wal", "memory"):
        problems.append(
            f"Its journal mode is {figures['journal_mode']}: readers and writers block each other."
        )
    if not dialect().begins_with_lock(db):
        problems.append("A transaction that reads before it writes may fail with 'database is locked'.")
    if problems:
        hint = f'Add to the database in DATABASES: "OPTIONS": {SQLITE_OPTIONS}'
        yield Warning(" ".join([message, *problems]), hint=hint, obj=figures)
    else:
        yield Info(message, obj=figures)


@register(Tags.database, "tables", "The tables and indexes are those of this version, and clocks agree.")
def check_tables(examination: Examination) -> list[CheckMessage]:
    """Run Django's checks of the database, and check that all migrations are applied, which ``migrate`` may not ask."""
    found = run_checks(tags=[Tags.database], databases=[database()])
    for message in found:
        if message.id == "notifications.W012":  # without an index other checks fail on SQLite
            message.level = ERROR
    if any(message.level >= ERROR for message in found) or not (missing := pending_migrations()):
        return found
    message = f"Migrations are not applied: {', '.join(missing)}."
    return [Error(message, hint=missing_tables.describe_remedy(), obj={"missing": missing})]


@register(Tags.database, "writes", "The database takes writes.")
def check_writes(examination: Examination) -> Iterator[CheckMessage]:
    """Check that the database takes a write: one that is read-only answers all the same."""
    try:
        try_write()
    except OUTAGES as exc:
        if not is_query_error(exc):
            raise
        yield Error(
            f"The database answers, but takes no write: {explain(exc)}.",
            hint="Check which server DATABASES leads to, the rights of its user, and free space on its disk. With "
            'several servers of PostgreSQL set "target_session_attrs": "read-write" in OPTIONS.',
        )


@register("processes", "numbering", "All changes are numbered.")
def check_numbering(examination: Examination) -> Iterator[CheckMessage]:
    """Check that pending changes are numbered, which each web process and each worker does once a second."""
    pending = streams.find_pending(MAX_PENDING_ROWS)
    until = time.monotonic() + NUMBERING_SECONDS
    while (left := pending & streams.find_pending(MAX_PENDING_ROWS)) and time.monotonic() < until:
        time.sleep(0.25)
    if left:
        yield Error(
            f"{len(left)} changes were not numbered within {NUMBERING_SECONDS:g} s, so they are not shown.",
            hint="Start a web process or a worker. If one is running, find the transaction that locks their rows.",
            obj={"waiting": len(left)},
        )


@register(
    "processes",
    "positions",
    f"Streams agree with their rows, by at most {MAX_POSITIONED_ROWS:,} streams and new rows of each kind.",
)
def check_positions(examination: Examination) -> Iterator[CheckMessage]:
    """Check streams against their rows, as far as a bounded read shows: none above the head, no two at one position."""
    if wrong := rebuilding.find_wrong_streams(MAX_POSITIONED_ROWS):
        yield Error(
            "Rows are hidden, share a position, or count wrongly as seen, because streams do not agree with "
            f"them, for {len(wrong)} users: {name_users(wrong)}.",
            hint="Stop the site, and run manage.py notifications doctor --recount.",
            obj={"wrong": list(map(str, wrong))},
        )


def name_users(users: Iterable[Any]) -> str:
    """Return the first of these users (keys) as text."""
    named = list(map(str, users))
    return ", ".join(named[:MAX_USERS_NAMED]) + (" and others" if len(named) > MAX_USERS_NAMED else "")


@register(
    "processes",
    "unread",
    f"No unread or unseen count is wrong, by at most {MAX_COUNTED_ROWS:,} unread notifications.",
)
def check_unread_counts(examination: Examination) -> Iterator[CheckMessage]:
    """Check the unread and unseen counts of users against their notifications, as far as a bounded read shows."""
    if wrong := rebuilding.find_wrong_counts(MAX_COUNTED_ROWS):
        yield Error(
            f"The unread or unseen count is wrong for {len(wrong)} users: {name_users(wrong)}.",
            hint="Run manage.py notifications doctor --recount. "
            "Then find the program that changes rows without this app.",
            obj={
                "wrong": {
                    str(user): {
                        "unread": [stored.unread, expected.unread],
                        "unseen": [stored.unseen, expected.unseen],
                    }
                    for user, (stored, expected) in wrong.items()
                }
            },
        )


@register(
    "live",
    "ready",
    "The database answers, the migrations are applied, and no worker is known to be missing.",
)
def check_readiness(examination: Examination) -> Iterator[CheckMessage]:
    """Check that the database answers, that the migrations are applied, and that a worker is alive."""
    found = find_missing()
    if found and found.obj["missing"] is Missing.SETTINGS:
        yield found
    elif (mismatch := find_mismatch()) and not mismatch.is_unmigrated:
        message = f"Not ready because of the migrations: {mismatch.problem}"
        yield Error(message, hint=mismatch.remedy, obj={"missing": Missing.MIGRATIONS})
    elif found:
        if found.obj["missing"] is Missing.WORKER:
            found.msg = f"{found.msg.removesuffix('.')}; {describe_depths(queue_depths())}."
        yield found

"""The database: does it answer, has it our tables, is its clock ours, and is everything numbered and counted."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db.migrations.executor import MigrationExecutor

from notifications.checks import SQLITE_OPTIONS
from notifications.db.transactions import begins_with_lock, connection, database
from notifications.diagnosis.finding import ERROR, OK, WARNING, Finding, ms
from notifications.jobs.transitions.guards import database_now
from notifications.models import Job, Notification
from notifications.streams import recount

#: Seconds: clocks that differ by more are said, and changes that have waited for so long for their number.
MAX_CLOCK_SKEW_SECONDS, LEFT = 2.0, 3.0
#: Users whose unread count is wrong that are named.
MAX_USERS_NAMED = 10


def reach() -> Finding:
    """Whether the database answers, and how quickly."""
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
    words = f"{db.vendor} ({db.alias}) answers in {figures['ms']} ms."
    problems = []
    if figures.get("journal_mode") not in (None, "wal", "memory"):
        problems.append(
            f"Its journal mode is {figures['journal_mode']}: readers and writers wait for one another."
        )
    if not begins_with_lock(db):
        problems.append("A transaction that reads before it writes may fail with 'database is locked'.")
    if problems:
        return Finding(
            what="database",
            state=WARNING,
            words=" ".join([words, *problems]),
            remedy=f'Add to the database in DATABASES: "OPTIONS": {SQLITE_OPTIONS}',
            figures=figures,
        )
    return Finding(what="database", state=OK, words=words, figures=figures)


def migrated() -> Finding:
    """Whether the tables are those of this version."""
    executor = MigrationExecutor(connection())
    leaves = [leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] == "notifications"]
    missing = [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(leaves)]
    if missing:
        return Finding(
            what="tables",
            state=ERROR,
            words=f"Migrations are missing: {', '.join(missing)}.",
            remedy="Run: manage.py migrate.",
            figures={"missing": missing},
        )
    if lost := sorted(missing_indexes()):
        return Finding(
            what="tables",
            state=ERROR,
            words=f"Indexes are missing: {', '.join(lost)}. Queries are slow; on SQLite claims of jobs fail.",
            remedy="Run their CREATE INDEX, which manage.py sqlmigrate prints for the migrations of notifications.",
            figures={"missing_indexes": lost},
        )
    return Finding(what="tables", state=OK, words="All migrations of notifications are applied.")


def missing_indexes() -> set[str]:
    """Return the names of this app's indexes that are not in the database, or that PostgreSQL has not finished."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'index'"
    if connection().vendor == "postgresql":
        sql = (
            "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid "
            "WHERE indisvalid AND pg_table_is_visible(pg_class.oid)"
        )
    models = apps.get_app_config("notifications").get_models()
    with connection().cursor() as cursor:
        cursor.execute(sql)
        return {index.name for model in models for index in model._meta.indexes} - {
            name for (name,) in cursor.fetchall()
        }


def clocks() -> Finding:
    """Whether the database's clock, by which leases are counted, is about ours."""
    skew = (database_now() - datetime.now(UTC)).total_seconds()
    figures = {"seconds": round(skew, 3)}
    if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
        return Finding(
            what="clock",
            state=WARNING,
            words=f"The database's clock is {skew:+.1f} s beside the one of this machine.",
            remedy="Let both machines keep time by NTP: times in the inbox and of delayed jobs are wrong otherwise.",
            figures=figures,
        )
    return Finding(what="clock", state=OK, words="The database's clock is ours.", figures=figures)


def numbers() -> Finding:
    """Whether somebody numbers what was left over: each web process and each worker does, once a second."""
    waiting = rows_without_number()
    until = time.monotonic() + LEFT
    while (left := waiting & rows_without_number()) and time.monotonic() < until:
        time.sleep(0.25)
    if left:
        return Finding(
            what="numbers",
            state=ERROR,
            words=f"{len(left)} changes have waited for their number for {LEFT:g} s: nobody is told of them.",
            remedy="Start a web process or a worker; where there is one, look for a transaction that holds their rows.",
            figures={"waiting": len(left)},
        )
    return Finding(what="numbers", state=OK, words="No change waits for its number.", figures={"waiting": 0})


def rows_without_number() -> set[Any]:
    return {
        id
        for model in (Notification, Job)
        for id in model.objects.using(database()).filter(seq__isnull=True).values_list("id", flat=True)[:1000]
    }


def counts() -> Finding:
    """Whether the number on each bell is that of the unread notifications."""
    wrong = recount.find_wrong_counts()
    if wrong:
        named = ", ".join(map(str, list(wrong)[:MAX_USERS_NAMED])) + (
            " and others" if len(wrong) > MAX_USERS_NAMED else ""
        )
        return Finding(
            what="unread",
            state=ERROR,
            words=f"The number on the bell is wrong for {len(wrong)} users: {named}.",
            remedy="Run: manage.py doctor --recount. Then find out who changed rows past this app.",
            figures={"wrong": {str(user): list(pair) for user, pair in wrong.items()}},
        )
    return Finding(what="unread", state=OK, words="The number on every bell is right.")

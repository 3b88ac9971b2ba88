"""The migration that gives jobs a lane, on tables that are in use."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from notifications.ids import uuid7

LANES = ("notifications_job_ready", "notifications_job_queued", "notifications_job_keyed")


@pytest.fixture
def schema(transactional_db):
    """schema(name) migrates there; after the test everything is migrated again."""
    yield migrate
    migrate(*latest())


def test_lanes_that_were_interrupted_are_made_again(schema):
    """After the column, and in the middle of an index; and there and back."""
    for step in ("column", "index"):
        schema("0006_job_queued")
        assert not any("lane" in columns_of(name) for name in LANES)
        with connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE notifications_job ADD COLUMN lane varchar(10) DEFAULT 'sync' NOT NULL"
            )
            if step == "index" and connection.vendor == "postgresql":
                cursor.execute(f"CREATE INDEX {LANES[0]}_new ON notifications_job (title)")
                cursor.execute(f"DROP INDEX {LANES[0]}")
        schema("0007_job_lane")
        assert [columns_of(name).index("lane") for name in LANES] == [0, 1, 1]
        assert not columns_of(f"{LANES[0]}_new")


def test_jobs_of_older_versions_have_a_lane(schema):
    """Those that were there before, and those that are inserted during a rolling deploy."""
    schema("0006_job_queued")
    insert_as_before(1)
    schema("0007_job_lane")
    insert_as_before(2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT lane FROM notifications_job")
        assert cursor.fetchall() == [("sync",)] * 2


def insert_as_before(number):
    """Insert a job as a version does that knows of no lanes."""
    texts = ("progress_message", "url", "language", "trace", "idempotency_key", "idempotency_hash")
    row = {
        "id": uuid7() if connection.vendor == "postgresql" else uuid7().hex,
        **dict.fromkeys(("version", "fence", "attempt", "max_attempts", "priority"), number),
        **dict.fromkeys(("task_path", "args", "kwargs", "backend", "queue_name", "title", "state"), "queued"),
        **dict.fromkeys((*texts, "concurrency_key"), ""),
        **dict.fromkeys(("created_at", "queued_at"), "2026-01-01 00:00:00+00:00"),
        "cancelled_by_other": False,
    }
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(row))
        cursor.execute(
            f"INSERT INTO notifications_job ({', '.join(row)}) VALUES ({marks})", list(row.values())
        )


def columns_of(index):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "notifications_job")
    return found[index]["columns"] if index in found else []


def latest():
    leaves = MigrationExecutor(connection).loader.graph.leaf_nodes("notifications")
    return [name for _, name in leaves]


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])

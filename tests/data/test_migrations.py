"""Migrations of tables that are large where the app is in use."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from notifications.ids import uuid7
from notifications.migrations import _operations

FIRST, LATEST = "0001_streams", "0003_job_engines"

#: The indexes that have got the lane of a job, and what the index before it had.
LANE_INDEXES = ("notifications_job_ready", "notifications_job_queued", "notifications_job_keyed")
#: The indexes that are new: the table, and the first column (None: an expression).
NEW_INDEXES = {
    "notifications_n_inbox_unread": ("notifications_notification", "user_id"),
    "notifications_n_inbox_read": ("notifications_notification", "user_id"),
    "notifications_n_arch_unread": ("notifications_notification", "user_id"),
    "notifications_n_arch_read": ("notifications_notification", "user_id"),
    "notifications_n_open_key": ("notifications_notification", None),
    "notifications_stream_reading": ("notifications_stream", "user_id"),
}
#: Migrations of unreleased versions, up to the schema of the first migration and from it to the latest.
FORMER_FIRST = [
    "0002_engine",
    "0003_worker_outbound",
    "0004_job_trace",
    "0005_ring_origin",
    "0006_job_queued",
]
FORMER_LATEST = [
    "0007_job_lane",
    "0008_notification_indexes",
    "0009_stream_reading",
    "0010_stream_reading_index",
]


@pytest.fixture
def migrated_to_first(transactional_db):
    """A database at the first migration; after the test it is migrated to the latest again."""
    migrate(FIRST)
    yield
    migrate(LATEST)
    assert_latest()


@pytest.fixture
def former_records(transactional_db):
    """former_records(names) records migrations of unreleased versions until the end of the test."""
    recorder, recorded = MigrationRecorder(connection), []

    def record(names):
        for name in names:
            recorder.record_applied("notifications", name)
            recorded.append(name)

    yield record
    for name in recorded:
        recorder.record_unapplied("notifications", name)


def test_indexes_of_large_tables_are_made_without_a_lock(on_postgresql, capsys):
    """Writers do not wait for them, and an index is dropped after its replacement is made."""
    for name in ("0002_job_lanes", LATEST):
        call_command("sqlmigrate", "notifications", name, verbosity=0)
    lines = [line for line in capsys.readouterr().out.splitlines() if "INDEX" in line]
    made = [line for line in lines if line.startswith("CREATE INDEX")]
    assert len(made) == len(LANE_INDEXES) + len(NEW_INDEXES) + 1  # and that of handed jobs
    assert all(line.startswith("CREATE INDEX CONCURRENTLY") for line in made)
    dropped = [line for line in lines if line.startswith("DROP INDEX")]
    assert all(line.startswith("DROP INDEX CONCURRENTLY") for line in dropped)
    partitions = [line for line in lines if "notifications_n_" in line]
    assert [line.split()[0] for line in partitions] == ["CREATE"] * 5 + ["DROP"] * 4


def test_a_database_of_an_unreleased_version_goes_on(migrated_to_first, former_records):
    """One that was at 0006, whose schema is that of the first migration now."""
    former_records(FORMER_FIRST)
    migrate(LATEST)
    assert_latest()


def test_a_database_that_has_all_of_it_already_is_not_changed(transactional_db, former_records):
    """One of an unreleased version at 0010: no index is dropped, not even to be made again."""
    former_records([*FORMER_FIRST, *FORMER_LATEST])
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("notifications", LATEST)
    with CaptureQueriesContext(connection) as queries:
        migrate(LATEST)
    kept = {*LANE_INDEXES, *NEW_INDEXES, "lane", "read_after"}
    changes = [query["sql"] for query in queries if query["sql"].startswith(("ALTER", "CREATE", "DROP"))]
    assert [sql for sql in changes if any(name in sql for name in kept)] == []
    assert_latest()


@pytest.mark.parametrize("step", ["column", "lane index", "index", "last column"])
def test_a_migration_that_was_interrupted_is_run_again(migrated_to_first, step):
    """What is there already does not stop it."""
    assert not any("lane" in columns_of("notifications_job", name) for name in LANE_INDEXES)
    with connection.cursor() as cursor:
        if step != "last column":
            cursor.execute(
                "ALTER TABLE notifications_job ADD COLUMN lane varchar(10) DEFAULT 'sync' NOT NULL"
            )
        if step == "lane index" and connection.vendor == "postgresql":
            cursor.execute(f"CREATE INDEX {LANE_INDEXES[0]}_new ON notifications_job (title)")
            cursor.execute(f"DROP INDEX {LANE_INDEXES[0]}")
        if step == "index":
            cursor.execute(
                "CREATE INDEX notifications_n_inbox_unread ON notifications_notification (user_id)"
            )
        if step == "last column":
            cursor.execute("ALTER TABLE notifications_stream ADD COLUMN read_after bigint NULL")
    migrate(LATEST)
    assert_latest()


def test_going_back_that_was_interrupted_is_run_again(transactional_db):
    """What is missing already does not stop it."""
    try:
        with connection.cursor() as cursor:
            for name in NEW_INDEXES:
                cursor.execute(f"DROP INDEX {name}")
        migrate(FIRST)
    finally:
        migrate(LATEST)
    assert_latest()


def test_two_processes_that_migrate_at_once(migrated_to_first, monkeypatch):
    """Neither drops what the other one builds, and each index is there in the end."""
    monkeypatch.setattr(_operations, "POLL_INTERVAL_SECONDS", 0.01)

    def migrate_and_close():
        try:
            migrate(LATEST)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        for process in [threads.submit(migrate_and_close) for _ in range(2)]:
            process.result(60)
    assert_latest()


def test_an_index_whose_build_was_interrupted_is_built_again(on_postgresql, migrated_to_first):
    """PostgreSQL keeps it as invalid, and no query uses it."""
    name = "notifications_n_inbox_unread"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX {name} ON notifications_notification (title)")
        cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    migrate(LATEST)
    assert_latest()


def test_jobs_of_older_versions_have_a_lane(migrated_to_first):
    """Those that were there before, and those that are inserted during a rolling deploy."""
    insert_job_without_lane(1)
    migrate(LATEST)
    insert_job_without_lane(2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT lane FROM notifications_job")
        assert cursor.fetchall() == [("sync",)] * 2
        cursor.execute("DELETE FROM notifications_job")


def insert_job_without_lane(number):
    """Insert a job as a version does that does not know of lanes."""
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


def assert_latest():
    """Every index is there with its columns, and nothing is left of the steps between."""
    assert [columns_of("notifications_job", name).index("lane") for name in LANE_INDEXES] == [0, 1, 1]
    assert not any(columns_of("notifications_job", f"{name}_new") for name in LANE_INDEXES)
    for name, (table, column) in NEW_INDEXES.items():
        found = columns_of(table, name)
        assert found is not None, name
        assert found[:1] == ([column] if column else []) or found[0] is None, name
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
            assert cursor.fetchone() == (0,)


def columns_of(table, index):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, table)
    return found[index]["columns"] if index in found else None


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])

"""Migrations of an installation with large tables."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections, migrations, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from notifications.ids import uuid7
from notifications.migrations import _operations
from notifications.models import Job
from tests.support.waiting import wait_until

FIRST, OBSERVED = "0001_streams", "0004_observed_jobs"
SEPARATE_COLUMNS = "0021_separate_columns"
LATEST = max(path.stem for path in Path(_operations.__file__).parent.glob("0*.py"))

#: The indexes of jobs that 0002_job_lanes rebuilds with the column lane.
LANE_INDEXES = ("notifications_job_ready", "notifications_job_queued", "notifications_job_keyed")
#: The indexes that 0002_job_lanes adds, with their table and first column (None: an expression).
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


def test_indexes_of_large_tables_are_created_concurrently(on_postgresql, capsys):
    """Indexes are created and dropped concurrently, without blocking writers, and replaced before they are dropped."""
    for name in ("0002_job_lanes", "0003_job_engines", OBSERVED, SEPARATE_COLUMNS):
        call_command("sqlmigrate", "notifications", name, verbosity=0)
    lines = [line for line in capsys.readouterr().out.splitlines() if "INDEX" in line]
    created = [line for line in lines if line.startswith("CREATE INDEX")]
    assert len(created) == len(LANE_INDEXES) + len(NEW_INDEXES) + 3  # of handed and of observed jobs
    assert all(line.startswith("CREATE INDEX CONCURRENTLY") for line in created)
    dropped = [line for line in lines if line.startswith("DROP INDEX")]
    assert all(line.startswith("DROP INDEX CONCURRENTLY") for line in dropped)
    partitions = [line for line in lines if "notifications_n_" in line]
    assert [line.split()[0] for line in partitions] == ["CREATE"] * 5 + ["DROP"] * 4


def test_columns_for_other_times_are_added_without_a_copy_of_the_table(transactional_db, capsys):
    """They are NULL in all rows: neither database writes to these."""
    call_command("sqlmigrate", "notifications", SEPARATE_COLUMNS, verbosity=0)
    lines = capsys.readouterr().out.splitlines()
    statements = [line for line in lines if line.startswith(("ALTER", "CREATE", "UPDATE", "INSERT", "DROP"))]
    added = [line for line in statements if line.startswith('ALTER TABLE "notifications_job" ADD COLUMN')]
    assert len(added) == 6 and all(line.endswith(" NULL;") and "DEFAULT" not in line for line in added)
    assert [line.split(" INDEX")[0] for line in statements if line not in added] == ["CREATE"]


def test_database_of_an_unreleased_version_is_migrated(migrated_to_first, former_records):
    """A database of an unreleased version at 0006, which has the schema of the present first migration, is migrated."""
    former_records(FORMER_FIRST)
    migrate(LATEST)
    assert_latest()


def test_database_with_the_latest_schema_is_not_changed(transactional_db, former_records):
    """On a database of an unreleased version at 0010, which has all columns and indexes, none is changed."""
    former_records([*FORMER_FIRST, *FORMER_LATEST])
    migrate(OBSERVED)
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("notifications", OBSERVED)
    with CaptureQueriesContext(connection) as queries:
        migrate(LATEST)
    kept = {*LANE_INDEXES, *NEW_INDEXES, 'COLUMN "lane"', "read_after"}
    changes = [query["sql"] for query in queries if query["sql"].startswith(("ALTER", "CREATE", "DROP"))]
    assert [sql for sql in changes if any(name in sql for name in kept)] == []
    assert_latest()


@pytest.mark.parametrize("step", ["column", "lane index", "index", "last column"])
def test_interrupted_migration_can_be_run_again(migrated_to_first, step):
    """An interrupted migration can be run again: columns and indexes that exist already are no error."""
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


def test_interrupted_reverse_migration_can_be_run_again(transactional_db):
    """An interrupted reverse migration can be run again: indexes that are already dropped are no error."""
    try:
        with connection.cursor() as cursor:
            for name in NEW_INDEXES:
                cursor.execute(f"DROP INDEX {name}")
        migrate(FIRST)
    finally:
        migrate(LATEST)
    assert_latest()


def test_two_processes_migrate_concurrently(migrated_to_first, monkeypatch):
    """Two processes that migrate concurrently do not drop each other's indexes, and all indexes exist afterwards."""
    monkeypatch.setattr(_operations, "POLL_INTERVAL_SECONDS", 0.01)

    def migrate_and_close():
        try:
            migrate(LATEST)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        for migration in [threads.submit(migrate_and_close) for _ in range(2)]:
            migration.result(60)
    assert_latest()


def test_migrations_lock_tables_briefly():
    """All that add columns or indexes use operations of the app, outside a transaction that would keep their locks."""
    plain = (migrations.AddField, migrations.AddIndex, migrations.RemoveIndex, migrations.CreateModel)
    loader = MigrationLoader(None)
    for (app, name), migration in loader.disk_migrations.items():
        if app == "notifications" and name != FIRST:
            assert not [operation for operation in migration.operations if type(operation) in plain], name
            assert not migration.atomic or not [op for op in migration.operations if isinstance(op, plain)], (
                name
            )


def test_a_locked_table_is_tried_again(on_postgresql, migrated_to_first, monkeypatch, caplog):
    """Behind a long reader the ALTER TABLE gives up, so that those behind it can read, and is made later."""
    monkeypatch.setattr(_operations, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(_operations, "LOCK_PAUSE_SECONDS", 0.2)

    def migrate_in_thread():
        try:
            migrate("0002_job_lanes")
        finally:
            connections.close_all()

    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            Job.objects.values_list("id").first()
            migrated = pool.submit(migrate_in_thread)
            wait_until(lambda: caplog.text.count("is tried again") >= 2, timeout=60, what="two tries")
            assert not migrated.done()
        migrated.result(60)
    assert not Job.objects.filter(lane="handed").exists()


def test_index_with_interrupted_build_is_built_again(on_postgresql, migrated_to_first):
    """An index whose build was interrupted, which PostgreSQL keeps as invalid and unused, is built again."""
    name = "notifications_n_inbox_unread"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX {name} ON notifications_notification (title)")
        cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    migrate(LATEST)
    assert_latest()


def test_jobs_of_older_versions_have_a_lane(migrated_to_first):
    """Jobs that an older version inserted, before the migration or during a rolling deploy, get the lane sync."""
    insert_job_without_lane(1)
    migrate(LATEST)
    insert_job_without_lane(2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT lane FROM notifications_job")
        assert cursor.fetchall() == [("sync",)] * 2
        cursor.execute("DELETE FROM notifications_job")


def insert_job_without_lane(number):
    """Insert a job as a version without lanes does."""
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
        placeholders = ", ".join(["%s"] * len(row))
        cursor.execute(
            f"INSERT INTO notifications_job ({', '.join(row)}) VALUES ({placeholders})", list(row.values())
        )


def assert_latest():
    """Assert that every index exists with its columns, and that no temporary or invalid index is left."""
    assert [columns_of("notifications_job", name).index("lane") for name in LANE_INDEXES] == [0, 1, 1]
    assert not any(columns_of("notifications_job", f"{name}_new") for name in LANE_INDEXES)
    for name, (table, column) in NEW_INDEXES.items():
        columns = columns_of(table, name)
        assert columns is not None, name
        assert columns[:1] == ([column] if column else []) or columns[0] is None, name
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
            assert cursor.fetchone() == (0,)


def columns_of(table, index):
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table)
    return constraints[index]["columns"] if index in constraints else None


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])

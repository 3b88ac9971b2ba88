"""Migrations of tables that are large where the app is in use."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext

LATEST = "0010_stream_reading_index"
#: By migration: the table and the indexes that it makes, each with its first column.
MADE = {
    "0006_job_queued": (
        "notifications_job",
        {"notifications_job_queued": "queue_name", "notifications_job_keyed": "queue_name"},
    ),
    "0008_notification_indexes": (
        "notifications_notification",
        {
            "notifications_n_inbox_unread": "user_id",
            "notifications_n_inbox_read": "user_id",
            "notifications_n_arch_unread": "user_id",
            "notifications_n_arch_read": "user_id",
            "notifications_n_open_key": None,
        },
    ),
}
BEFORE = {"0006_job_queued": "0005_ring_origin", "0008_notification_indexes": "0007_job_lane"}


@pytest.mark.parametrize("name", MADE)
def test_indexes_are_made_without_a_lock(on_postgresql, capsys, name):
    """Nobody who writes rows waits for them, and none is dropped before all are made."""
    call_command("sqlmigrate", "notifications", name, verbosity=0)
    lines = [line for line in capsys.readouterr().out.splitlines() if "INDEX" in line]
    made = [line for line in lines if line.startswith("CREATE INDEX CONCURRENTLY")]
    assert len(made) == len(MADE[name][1])
    assert lines[: len(made)] == made
    assert all(line.startswith("DROP INDEX CONCURRENTLY") for line in lines[len(made) :])


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("back", [False, True])
def test_a_migration_that_was_interrupted_is_run_again(transactional_db, name, back):
    """Indexes that are there already, or are missing already, do not stop it, in both directions."""
    table, indexes = MADE[name]
    first, *_, last = indexes
    try:
        with connection.cursor() as cursor:
            if back:
                migrate(name)
                cursor.execute(f"DROP INDEX {last}")
                migrate(BEFORE[name])
            else:
                migrate(BEFORE[name])
                cursor.execute(f"CREATE INDEX {first} ON {table} ({indexes[first]})")
    finally:
        migrate(LATEST)
    assert first_columns(table, indexes) == indexes


@pytest.mark.parametrize("name", MADE)
def test_a_second_migration_at_the_same_time_takes_no_index_away(transactional_db, name):
    """Queries of running workers name indexes: one that is there is not dropped to be made again."""
    table, indexes = MADE[name]
    (operations,) = [
        node.operations
        for key, node in MigrationExecutor(connection).loader.disk_migrations.items()
        if key[1] == name
    ]
    loader = MigrationExecutor(connection).loader
    after = loader.project_state(("notifications", name))
    before = loader.project_state(("notifications", BEFORE[name]))
    with CaptureQueriesContext(connection) as queries, connection.schema_editor(atomic=False) as editor:
        for operation in operations:
            if getattr(operation, "index", None):
                operation.database_forwards("notifications", editor, before, after)
    assert [query["sql"] for query in queries if "DROP INDEX" in query["sql"]] == []
    assert first_columns(table, indexes) == indexes


def test_an_index_whose_build_broke_off_is_built_again(on_postgresql):
    """PostgreSQL keeps it and no query uses it."""
    (name, (table, indexes)) = next(iter(MADE.items()))
    broken = next(iter(indexes))
    try:
        migrate(BEFORE[name])
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE INDEX {broken} ON {table} (title)")
            cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{broken}'::regclass")
    finally:
        migrate(LATEST)
    assert first_columns(table, indexes) == indexes


def first_columns(table, indexes):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, table)
    return {name: (found[name]["columns"] or [None])[0] for name in indexes}


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])

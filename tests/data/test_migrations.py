"""Migrations of tables that are large where the app is in use."""

from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

INDEXES = ("notifications_job_queued", "notifications_job_keyed")


def test_indexes_are_made_without_a_lock(on_postgresql, capsys):
    """Nobody who writes jobs waits for them."""
    call_command("sqlmigrate", "notifications", "0006", verbosity=0)
    made = [line for line in capsys.readouterr().out.splitlines() if line.startswith("CREATE INDEX")]
    assert len(made) == len(INDEXES)
    assert all(line.startswith("CREATE INDEX CONCURRENTLY") for line in made)


def test_a_migration_that_was_interrupted_is_run_again(transactional_db):
    """What a build of an index that was broken off has left behind is not in its way, and is not taken for it."""
    migrate("0005_ring_origin")
    try:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE INDEX {INDEXES[0]} ON notifications_job (title)")
    finally:
        migrate("0006_job_queued")
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "notifications_job")
    assert [found[name]["columns"][0] for name in INDEXES] == ["queue_name", "queue_name"]


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])

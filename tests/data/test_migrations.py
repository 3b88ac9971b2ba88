"""Migrations of tables that are large where the app is in use."""

import pytest
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


@pytest.mark.parametrize("to", ["0005_ring_origin", "0006_job_queued"])
def test_a_migration_that_was_interrupted_is_run_again(transactional_db, to):
    """What a build of an index that was broken off has left behind is not in its way, and is not taken for it.

    Neither is what it had not yet made in the way of going back.
    """
    with connection.cursor() as cursor:
        if to == "0006_job_queued":
            migrate("0005_ring_origin")
            cursor.execute(f"CREATE INDEX {INDEXES[0]} ON notifications_job (title)")
        else:
            cursor.execute(f"DROP INDEX {INDEXES[1]}")
        try:
            migrate(to)
        finally:
            migrate("0006_job_queued")
        found = connection.introspection.get_constraints(cursor, "notifications_job")
    assert [found[name]["columns"][0] for name in INDEXES] == ["queue_name", "queue_name"]


def migrate(name):
    MigrationExecutor(connection).migrate([("notifications", name)])

"""A database whose tables are not those of the models is refused by all that would use it, with the remedy."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from notifications import checks
from notifications.db import schema

RENAME = "ALTER TABLE notifications_worker RENAME COLUMN load TO former_load"
DIFFERS = "The tables of the database 'default' are not those of this version: {}. "
REMEDY = "All migrations are applied, so something else has changed it. Restore it from a backup, or correct the table."


@pytest.fixture
def changed_site(site):
    """A site whose database has a column by another name."""
    site.write([(RENAME, ())])
    return site


@pytest.mark.parametrize(
    "arguments",
    [
        ["manage.py", "migrate"],
        ["manage.py", "run_jobs"],
        ["manage.py", "run_jobs", "--processes", "2"],
        ["-m", "daphne", "-p", "0", "asyncsite.asgi:application"],
        ["-m", "uvicorn", "--port", "0", "asyncsite.asgi:application"],
        ["manage.py", "serve"],
    ],
    ids=["migrate", "run_jobs", "processes", "daphne", "uvicorn", "serve"],
)
def test_a_process_on_a_changed_database(changed_site, arguments):
    process = changed_site.start("refused", *arguments)
    assert process.popen.wait(60) not in (0, None)
    assert DIFFERS.format("notifications_worker has no column load") + REMEDY in process.output
    assert "No migrations to apply" not in process.output


def test_a_process_on_a_new_database(site):
    """Before ``migrate``, workers wait and `check` finds nothing."""
    site.write(
        [
            (f'DROP TABLE "{table}" CASCADE' if site_on_postgres(site) else f'DROP TABLE "{table}"', ())
            for table in site.tables()
        ]
    )
    assert "no issues" in site.manage("check", "--database", "default", "--tag", "database")
    worker = site.start("worker", "manage.py", "run_jobs")
    worker.wait_for_line("The database is not migrated")
    worker.wait_for_line("The worker waits for the database")
    site.manage("migrate", "--verbosity", "0")
    worker.wait_until(lambda: site.rows("SELECT id FROM notifications_worker"), what="the worker's row")
    assert "No migrations to apply" in site.manage("migrate")


def site_on_postgres(site):
    return not site.database_url.startswith("sqlite")


def test_the_present_schema_costs_one_query(db):
    with CaptureQueriesContext(connection) as queries:
        assert schema.find_mismatch() is None
    assert len(queries) == 1
    schema.require_present_schema()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (RENAME, "notifications_worker has no column load"),
        ("ALTER TABLE notifications_worker ADD COLUMN note integer", ""),
        ("ALTER TABLE notifications_worker ADD COLUMN note integer NOT NULL DEFAULT 0", ""),
        ("DROP TABLE notifications_queue", "there is no table notifications_queue"),
    ],
)
def test_what_differs(db, statement, problem):
    with connection.cursor() as cursor:
        cursor.execute(statement)
    expected = schema.Mismatch(DIFFERS.format(problem) + REMEDY, is_unmigrated=False)
    assert schema.find_mismatch() == (expected if problem else None)


def test_a_database_of_a_newer_version(db):
    """Its columns that this version does not fill make each INSERT fail."""
    MigrationRecorder(connection).record_applied("notifications", "0099_note")
    assert schema.find_mismatch() is None
    with connection.cursor() as cursor:
        cursor.execute(RENAME)
    with pytest.raises(ImproperlyConfigured) as raised:
        schema.refuse(schema.find_mismatch())
    remedy = "A newer version has migrated it (notifications.0099_note). Install that version."
    assert str(raised.value) == DIFFERS.format("notifications_worker has no column load") + remedy


def test_an_unknown_column_that_an_insert_must_give_a_value(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE notifications_queue")
        cursor.execute(
            "CREATE TABLE notifications_queue (name varchar(100) NOT NULL PRIMARY KEY, paused_at timestamp NULL, "
            "note integer NOT NULL)"
        )
    assert "notifications_queue requires the unknown column note" in schema.find_mismatch().text


def test_a_database_that_is_not_migrated_yet(db, caplog):
    """`migrate` runs the check before it applies migrations, and processes start before it has run."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE notifications_queue")
    MigrationRecorder(connection).record_unapplied("notifications", "0001_streams")
    text = DIFFERS.format("there is no table notifications_queue") + "Run manage.py migrate."
    assert schema.find_mismatch() == schema.Mismatch(text, is_unmigrated=True)
    assert checks.check_database(None, databases=["default"]) == []
    schema.refuse(schema.find_mismatch())
    assert caplog.messages == [f"The database is not migrated: {text}"]


def test_a_start_while_the_database_is_away(monkeypatch):
    def fail():
        raise schema.QUERY_ERRORS[0]("away")

    monkeypatch.setattr(schema, "find_mismatch", fail)
    schema.require_present_schema()

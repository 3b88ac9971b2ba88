"""A database that an earlier commit has made is refused, with one sentence, by all that would use it."""

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from notifications.db import schema

RENAME = "ALTER TABLE notifications_worker RENAME COLUMN load TO former_load"
REMEDY = "move it aside, which is the folder var/ at the site, and run manage.py migrate."


@pytest.fixture
def former_site(site):
    """A site whose database has a column as an earlier commit named it."""
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
def test_a_process_on_a_database_of_an_earlier_commit(former_site, arguments):
    process = former_site.start("refused", *arguments)
    assert process.popen.wait(60) not in (0, None)
    assert "was made by an earlier commit (notifications_worker has no column load)" in process.output
    assert REMEDY in process.output
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
    worker.wait_for_line("The worker waits for the database")
    site.manage("migrate", "--verbosity", "0")
    worker.wait_until(lambda: site.rows("SELECT id FROM notifications_worker"), what="the worker's row")
    assert "No migrations to apply" in site.manage("migrate")


def site_on_postgres(site):
    return not site.database_url.startswith("sqlite")


def test_the_present_schema_costs_one_query(db):
    with CaptureQueriesContext(connection) as queries:
        assert schema.find_mismatch() == ""
    assert len(queries) == 1
    schema.require_present_schema()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (RENAME, "notifications_worker has no column load"),
        ("ALTER TABLE notifications_worker ADD COLUMN note integer", ""),
        ("ALTER TABLE notifications_worker ADD COLUMN note integer NOT NULL DEFAULT 0", ""),
        ("DROP TABLE notifications_queue", "there is no table notifications_queue"),
        ("CREATE TABLE notifications_delivery (id integer)", "it has the table notifications_delivery"),
    ],
)
def test_what_differs(db, statement, problem):
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert schema.find_mismatch() == (
        f"The database 'default' was made by an earlier commit ({problem}): {REMEDY}" if problem else ""
    )


def test_a_former_column_that_an_insert_must_give_a_value(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE notifications_queue")
        cursor.execute(
            "CREATE TABLE notifications_queue (name varchar(100) NOT NULL PRIMARY KEY, paused_at timestamp NULL, "
            "note integer NOT NULL)"
        )
    assert "notifications_queue has the former column note" in schema.find_mismatch()


def test_migrations_that_are_not_applied_yet(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE notifications_queue")
    MigrationRecorder(connection).record_unapplied("notifications", "0001_streams")
    assert schema.find_mismatch() == ""


def test_a_start_while_the_database_is_away(monkeypatch):
    def fail():
        raise schema.QUERY_ERRORS[0]("away")

    monkeypatch.setattr(schema, "find_mismatch", fail)
    schema.require_present_schema()

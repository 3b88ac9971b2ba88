"""A database whose tables are not those of the models is refused by all that would use it, with the remedy."""

import pytest
from django.core.checks import Tags
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from notifications.db import schema
from tests.support.checks import doctor, system_checks
from tests.support.statements import refused

RENAME = "ALTER TABLE notifications_worker RENAME COLUMN load TO former_load"
DIFFERS = "The tables of the database 'default' are not those of this version: {}."
CHANGED = " Its migrations are applied as another commit had them, or something else has changed it."
REMEDY = "Use a new database, that commit, or a backup."


def database_checks():
    return system_checks("E001", "E012", tags=[Tags.database], databases=["default"])


@pytest.fixture
def changed_site(site):
    """A site whose database has a column by another name."""
    site.write([(RENAME, ())])
    return site


@pytest.mark.nightly_names("*[processes]", "*[uvicorn]")
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
    assert f"{DIFFERS.format('notifications_worker has no column load')}{CHANGED}" in process.output
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
    worker.wait_for_line("ERROR notifications: The database is not migrated")
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
    expected = schema.Mismatch(DIFFERS.format(problem) + CHANGED, REMEDY)
    assert schema.find_mismatch() == (expected if problem else None)


def test_a_database_of_a_newer_version(db):
    """Its columns that this version does not fill make each INSERT fail."""
    MigrationRecorder(connection).record_applied("notifications", "0099_note")
    assert schema.find_mismatch() is None
    with connection.cursor() as cursor:
        cursor.execute(RENAME)
    with pytest.raises(ImproperlyConfigured) as raised:
        schema.refuse(schema.find_mismatch())
    remedy = " Another version has migrated it (notifications.0099_note). Install that version, or use a new database."
    assert str(raised.value) == DIFFERS.format("notifications_worker has no column load") + remedy


@pytest.fixture
def hq_database(db):
    """A database with the table of django-notifications-hq."""
    MigrationRecorder(connection).record_unapplied("notifications", "0001_streams")
    for name in ("0001_initial", "0009_alter_notification_options_and_more"):
        MigrationRecorder(connection).record_applied("notifications", name)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notifications_notification RENAME COLUMN title TO verb")


def test_a_database_of_another_commit(db):
    """Until their release migrations are rewritten in place, so its applied ones have the same names."""
    with connection.cursor() as cursor:
        cursor.execute(RENAME)
    problem = DIFFERS.format("notifications_worker has no column load") + CHANGED
    (error,) = database_checks()
    assert (error.id, error.msg, error.hint) == ("notifications.E012", problem, REMEDY)
    assert_doctor_says(problem, REMEDY)


def test_a_database_of_another_app(hq_database):
    """All name the app and how its table is set aside, and none a newer version or `migrate`, which refuses."""
    (error,) = database_checks()
    assert error.id == "notifications.E001" and "RENAME TO hq_notification" in error.hint
    assert "django-notifications-hq" in error.msg
    assert system_checks("E001", tags=None) == []
    with pytest.raises(ImproperlyConfigured, match=r"django-notifications-hq.*RENAME TO hq_notification"):
        schema.refuse(schema.find_mismatch())
    assert_doctor_says(error.msg, error.hint)


def assert_doctor_says(problem, remedy):
    """Say the same in the check of the tables, before it advises anything else, and to probes."""
    (found,) = doctor("E001", "E012")
    assert (found["state"], found["message"], found["remedy"]) == ("error", problem, remedy)
    (found,) = doctor("ready", live=True)
    assert (found["state"], found["remedy"]) == ("error", remedy) and problem in found["message"]


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
    mismatch = schema.find_mismatch()
    text = DIFFERS.format("there is no table notifications_queue")
    assert mismatch == schema.Mismatch(text, "Run manage.py migrate.", is_unmigrated=True)
    assert database_checks() == []
    schema.refuse(schema.find_mismatch())
    assert caplog.messages == [f"The database is not migrated: {text} Run manage.py migrate."]


def test_a_start_while_the_database_is_away(db):
    with refused("") as statements:
        schema.require_present_schema()
    assert statements


def test_no_table_of_the_app_in_this_database(monkeypatch):
    """As in a schema of django-tenants that does not have the app: there is nothing to compare."""
    monkeypatch.setattr(schema, "list_apps", list)
    assert schema.find_mismatch() is None

"""The database of each release is migrated to the present tables, and the app reads its rows."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing

import psycopg
import pytest

import notifications
from tests.releases import databases
from tests.releases.databases import POSTGRES, SQLITE, STATEMENTS
from tests.support.site import Site, make_sqlite_template
from tests.support.waiting import wait_until


def load_sqlite(saved, folder):
    """Return a site with a copy of the file of a saved database."""
    copy = folder / "copy.sqlite3"
    shutil.copy(saved / SQLITE, copy)
    return Site(folder, f"sqlite:///{copy}")


def load_postgres(saved, folder, postgres):
    """Return a site with a new database that has the dump of a saved one."""
    name = f"release_{folder.name}"
    postgres.drop(name)  # of another test
    postgres.create(name)
    command = [postgres.psql, "-Xq", "-v", "ON_ERROR_STOP=1", "-d", postgres.url(name)]
    with (saved / POSTGRES).open() as dump:
        subprocess.run(command, check=True, stdin=dump, capture_output=True)
    return Site(folder, postgres.url(name))


def read_saved(saved, vendor):
    """Return what the release has read of its rows."""
    return json.loads((saved / f"{vendor}.json").read_text())


def find_refused_statements(site, saved):
    """Return the errors of the database for what processes of a release execute, by statement. All is rolled back."""
    vendor, refused = databases.vendor_of(site), {}
    if vendor == "sqlite":
        connection = sqlite3.connect(site.database_url.removeprefix("sqlite:///"), isolation_level=None)
        is_there_already = lambda exc: "UNIQUE constraint failed" in str(exc)  # noqa: E731
    else:
        connection = psycopg.connect(site.database_url, autocommit=True)
        is_there_already = lambda exc: isinstance(exc, psycopg.errors.UniqueViolation)  # noqa: E731
    with closing(connection):
        for statement in json.loads((saved / STATEMENTS[vendor]).read_text()):
            connection.execute("BEGIN")
            try:
                connection.execute(statement)
            except (sqlite3.Error, psycopg.Error) as exc:
                if not is_there_already(exc):
                    refused[statement] = str(exc)
            finally:
                connection.execute("ROLLBACK")
    return refused


def read_schema(site):
    """Return the columns, indexes and constraints of the tables of this project's apps, whatever their order is."""
    queries = SQLITE_SCHEMA if site.database_url.startswith("sqlite") else POSTGRES_SCHEMA
    rows = (row for query in queries for row in site.rows(query))
    return {row for row in rows if row[0].startswith(("notifications_", "asyncsite_"))}


SQLITE_SCHEMA = (
    """
    SELECT tables.name, columns.name, columns.type, columns."notnull", columns.dflt_value, columns.pk
    FROM sqlite_schema AS tables JOIN pragma_table_xinfo(tables.name) AS columns WHERE tables.type = 'table'
    """,
    "SELECT tbl_name, name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL",
    # Constraints have indexes without SQL.
    """
    SELECT tables.name, indexes.origin, group_concat(columns.name)
    FROM sqlite_schema AS tables JOIN pragma_index_list(tables.name) AS indexes
    JOIN pragma_index_info(indexes.name) AS columns
    WHERE tables.type = 'table' AND indexes.origin <> 'c' GROUP BY tables.name, indexes.name
    """,
    """
    SELECT tables.name, keys."from", keys."table", keys."to"
    FROM sqlite_schema AS tables JOIN pragma_foreign_key_list(tables.name) AS keys WHERE tables.type = 'table'
    """,
)
POSTGRES_SCHEMA = (
    """
    SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity
    FROM information_schema.columns WHERE table_schema = 'public'
    """,
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    """,
)


CHANGED = """
The tables of {} are not those of the models after `migrate`: a migration that it has was changed.
Restore that, and add a migration. If the version has no tag yet, run tools/release_database instead.
Only in the migrated database: {}
Only in a new one: {}"""
#: The present code: its own database is saved and read, as tools/release_database will.
UNRELEASED = "unreleased"


@pytest.fixture(params=["sqlite", "postgresql"])
def vendor(request):
    return request.param


@pytest.fixture
def make_site(vendor, request, tmp_path):
    """Return a function that makes a site on new tables, or on a copy of a saved database."""
    sites = []

    def make(saved=None):
        folder = tmp_path / f"site{len(sites)}"
        folder.mkdir()
        if saved and vendor == "postgresql":
            site = load_postgres(saved, folder, request.getfixturevalue("postgres"))
        elif saved:
            site = load_sqlite(saved, folder)
        elif vendor == "postgresql":
            site = request.getfixturevalue("postgres_sites").make()
        else:
            site = Site(folder, f"sqlite:///{shutil.copy(make_sqlite_template(users=True), folder)}")
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


@pytest.fixture(params=[*databases.releases(), pytest.param(UNRELEASED, marks=pytest.mark.nightly)])
def saved(request, make_site, tmp_path):
    """The folder of a saved database."""
    if request.param != UNRELEASED:
        return databases.FOLDER / request.param
    databases.save(make_site(), tmp_path / UNRELEASED)
    return tmp_path / UNRELEASED


def test_a_released_version_has_a_database():
    """CONTRIBUTING.md says how it is made."""
    assert notifications.__version__ in databases.releases()


def test_the_database_of_a_release(saved, make_site, vendor):
    """A first migration that was changed since leaves other tables than a new database has.

    Its processes may run beside new ones on the migrated database, which takes all that they execute.
    """
    site = make_site(saved)
    site.manage("migrate", "--verbosity", "0")
    found, new = read_schema(site), read_schema(make_site())
    assert found == new, CHANGED.format(saved.name, sorted(found - new), sorted(new - found))
    found, before = (
        json.loads(site.python(databases.CALL.format("read", ""))),
        read_saved(saved, vendor),
    )
    for table in found["rows"].keys() - before["rows"].keys():  # that a later version has created
        assert not found["rows"].pop(table)
    assert found == before
    assert not find_refused_statements(site, saved)


@pytest.fixture(params=databases.releases())
def both(request, make_site, tmp_path):
    """A site of a release, and one of the present code that has migrated the database of both."""
    commit = databases.find_commit(request.param)
    if not commit:
        pytest.skip(f"The history of git does not have the code of {request.param} (git fetch --unshallow).")
    databases.check_out(commit, tmp_path / "released")
    new = make_site(databases.FOLDER / request.param)
    new.manage("migrate", "--verbosity", "0")
    (tmp_path / "old").mkdir()
    with closing(Site(tmp_path / "old", new.database_url, code=tmp_path / "released")) as old:
        old.notifications = new.notifications = {"WEBHOOKS": True}
        yield old, new


@pytest.mark.nightly_names("*postgresql]")
def test_processes_of_a_release_beside_new_ones(both):
    """Workers of both run at once. Each executes, continues and ends the jobs that the other version has enqueued."""
    old, new = both
    queues = {"default": (old, new), "slow": (new, old)}
    workers = [runs.start_worker("--queue", queue) for queue, (runs, _) in queues.items()]
    for queue, (_, enqueues) in queues.items():
        enqueues.python(databases.CALL.format("enqueue", f"queue={queue!r}"))
    count = """
        SELECT count(*) FROM notifications_job
        WHERE state IN ('queued', 'running') AND queue_name IN ('default', 'slow') AND due_at IS NULL
    """
    has_ended = lambda: new.rows(count) == [(0,)]  # noqa: E731
    wait_until(has_ended, what="jobs to end or to wait")
    for queue, (_, resumes) in queues.items():
        resumes.python(databases.CALL.format("resume", f"queue={queue!r}"))
    wait_until(has_ended, what="jobs to end")
    for worker in workers:
        worker.stop()
    ends = "SELECT title, state, attempt FROM notifications_job WHERE queue_name = ? ORDER BY title, id"
    expected = [
        ("Delete the account", "succeeded", 1),
        ("Import the orders", "failed", 2),
        ("Order a label", "waiting", 1),
        ("Send the receipts of May", "succeeded", 1),
        ("Send the reminder", "waiting", 1),
    ]
    assert [new.rows(ends, [queue]) for queue in queues] == [sorted(2 * expected), expected]
    assert old.python(databases.CALL.format("read", "")) == new.python(databases.CALL.format("read", ""))

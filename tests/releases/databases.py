"""The databases of the releases, files of SQLite and dumps of PostgreSQL, and the statements of their workers."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg

from tests.support.postgres import PROGRAM_PATTERNS
from tests.support.requirements import find_program
from tests.support.site import Site

FOLDER = Path(__file__).resolve().parent
CALL = "from tests.releases import rows; rows.{}()"
SQLITE, POSTGRES = "database.sqlite3", "database.sql"


STATEMENTS = {vendor: f"statements.{vendor}.json" for vendor in ("sqlite", "postgresql")}


def vendor_of(site):
    return "sqlite" if site.database_url.startswith("sqlite") else "postgresql"


def releases():
    """Return the versions of which there is a database."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{SQLITE}"))


def save(site, folder):
    """Create the rows in a site that has its tables and users, and save its database and what is read of it."""
    site.notifications |= {"WEBHOOKS": True}
    folder.mkdir(exist_ok=True)
    recorded = site.folder / "recorded"
    settings = site.environment["DJANGO_SETTINGS_MODULE"]
    site.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.releases.recording",
        "RECORDED_STATEMENTS": str(recorded),
    }
    site.python(CALL.format("enqueue"))
    site.manage("run_jobs", "--until-idle")
    site.environment["DJANGO_SETTINGS_MODULE"] = settings
    by_form = dict(map(json.loads, recorded.read_text().splitlines()))
    (folder / STATEMENTS[vendor_of(site)]).write_text(json.dumps(sorted(by_form.values()), indent=0) + "\n")
    site.python(CALL.format("fill"))
    if site.database_url.startswith("sqlite"):
        name, file = "sqlite.json", folder / SQLITE
        file.unlink(missing_ok=True)
        with closing(sqlite3.connect(site.database_url.removeprefix("sqlite:///"))) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA page_size = 512")
            connection.execute(f"VACUUM INTO '{file}'")
    else:
        name = "postgresql.json"
        program = find_program(
            "pg_dump",
            package="postgresql-client",
            patterns=[each.format("pg_dump") for each in PROGRAM_PATTERNS],
        )
        command = [program, "--no-owner", "--no-privileges", site.database_url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # What only this version of psql and of the server knows.
        lines = [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
        text = "\n".join(line for line in lines if not line.startswith("SET transaction_timeout"))
        (folder / POSTGRES).write_text(f"{text}\n")
    (folder / name).write_text(site.python(CALL.format("read")))


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
    vendor, refused = vendor_of(site), {}
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

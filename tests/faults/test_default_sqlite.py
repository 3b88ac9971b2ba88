"""A project that reads and then writes in one transaction, while a worker uses the same SQLite file.

With Django's default options a transaction that has read cannot wait for the lock of another writer: SQLite refuses
its write immediately. The test prints how often. With the options of the quick start the transaction waits.
"""

import contextlib
import sqlite3
import time
from contextlib import closing

import pytest

from tests.support.faults.engine import ROUNDS, Engine

pytestmark = pytest.mark.nightly

DURATION_SECONDS = 30.0 if ROUNDS else 2.0
#: Between two transactions of the project.
PAUSE_SECONDS = 0.01
OPTIONS = {
    "default": {"journal": "DELETE", "begin": "BEGIN", "timeout": 5},
    "recommended": {"journal": "WAL", "begin": "BEGIN IMMEDIATE", "timeout": 20},
}


@pytest.fixture(params=OPTIONS)
def engine(request, site):
    if not site.database_url.startswith("sqlite"):
        pytest.skip("Only SQLite has a single lock.")
    engine = Engine(site, "default-sqlite", lease=20)
    engine.options = request.param
    if request.param == "default":
        site.environment["DJANGO_SETTINGS_MODULE"] = "tests.support.faults.default_sqlite_settings"
    with connect_project(engine) as project:
        project.execute(f"PRAGMA journal_mode={OPTIONS[request.param]['journal']}")
        project.execute("CREATE TABLE page (id integer PRIMARY KEY, views integer)")
        project.execute("INSERT INTO page VALUES (1, 0)")
    yield engine
    engine.close()


@pytest.mark.parametrize("jobs", [0, 2_000])
def test_read_then_write(engine, jobs):
    """With the recommended options no transaction fails. With both kinds of options all jobs are executed."""
    if jobs:
        engine.enqueue("noop", jobs)
    engine.site.start_worker()
    refused, waits = [], []
    end_at = time.monotonic() + DURATION_SECONDS
    with connect_project(engine) as project:
        while time.monotonic() < end_at:
            started = time.monotonic()
            try:
                project.execute(OPTIONS[engine.options]["begin"])
                project.execute("SELECT views FROM page").fetchall()
                project.execute("UPDATE page SET views = views + 1")
                project.execute("COMMIT")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
                with contextlib.suppress(sqlite3.OperationalError):
                    project.execute("ROLLBACK")
            waits.append(time.monotonic() - started)
            time.sleep(PAUSE_SECONDS)
    print(
        f"{engine.options} options, {jobs} jobs: {len(refused)} of {len(waits)} transactions were refused; "
        f"the longest took {max(waits):.2f} s"
    )
    engine.wait_until_done()
    assert set(refused) <= ({"database is locked"} if engine.options == "default" else set())


def connect_project(engine):
    """Return a connection of the project, without Django."""
    timeout = OPTIONS[engine.options]["timeout"]
    return closing(sqlite3.connect(engine.site._sqlite_file(), timeout=timeout, isolation_level=None))

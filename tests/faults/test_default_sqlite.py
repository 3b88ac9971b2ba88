"""A host that reads and then writes in one transaction, beside a worker on the same SQLite file.

With Django's default options a transaction that has read cannot wait for the lock of another writer: SQLite refuses it
at once. How often that happens is printed. With the options of the quick start it waits instead.
"""

import contextlib
import sqlite3
import time
from contextlib import closing

import pytest

from tests.faults.support.engine import ROUNDS, Engine

SECONDS = 30.0 if ROUNDS else 2.0
#: Seconds between two transactions of the host.
PAUSE = 0.01
HOSTS = {
    "default": {"journal": "DELETE", "begin": "BEGIN", "timeout": 5},
    "recommended": {"journal": "WAL", "begin": "BEGIN IMMEDIATE", "timeout": 20},
}


@pytest.fixture(params=HOSTS)
def engine(request, site):
    if not site.database_url.startswith("sqlite"):
        pytest.skip("It is SQLite that has one lock for all.")
    engine = Engine(site, "default-sqlite", lease=20)
    engine.options = request.param
    if request.param == "default":
        site.environment["DJANGO_SETTINGS_MODULE"] = "tests.faults.support.default_sqlite_settings"
    with connected(engine) as host:
        host.execute(f"PRAGMA journal_mode={HOSTS[request.param]['journal']}")
        host.execute("CREATE TABLE page (id integer PRIMARY KEY, views integer)")
        host.execute("INSERT INTO page VALUES (1, 0)")
    yield engine
    engine.close()


@pytest.mark.parametrize("jobs", [0, 2_000])
def test_a_host_that_reads_and_then_writes(engine, jobs):
    """None of its transactions fails with the recommended options; the jobs are done with both."""
    if jobs:
        engine.ask("noop", jobs)
    engine.site.start_worker()
    refused, waits = [], []
    until = time.monotonic() + SECONDS
    with connected(engine) as host:
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                host.execute(HOSTS[engine.options]["begin"])
                host.execute("SELECT views FROM page").fetchall()
                host.execute("UPDATE page SET views = views + 1")
                host.execute("COMMIT")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
                with contextlib.suppress(sqlite3.OperationalError):
                    host.execute("ROLLBACK")
            waits.append(time.monotonic() - began)
            time.sleep(PAUSE)
    print(
        f"{engine.options} options, {jobs} jobs: {len(refused)} of {len(waits)} transactions were refused; "
        f"the longest took {max(waits):.2f} s"
    )
    engine.until_done()
    assert set(refused) <= ({"database is locked"} if engine.options == "default" else set())


def connected(engine):
    """A connection of the host's, outside Django."""
    timeout = HOSTS[engine.options]["timeout"]
    return closing(sqlite3.connect(engine.site._sqlite_file(), timeout=timeout, isolation_level=None))

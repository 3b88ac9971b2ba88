"""The database answers and takes no write for a while: it is read-only, or tables of an installed app are missing.

What ends meanwhile is recorded once it takes writes again, and nothing runs twice.
"""

import urllib.error
import urllib.request

import pytest

from tests.support.faults.engine import TIMEOUT_SECONDS, Engine
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

pytestmark = pytest.mark.any_database

LEASE = 3
WAITING_JOBS = 4
TASKS = ("wait_for_gate", "wait_for_gate_sync")


def post(site, path):
    """Return the status of a POST without a session."""
    request = urllib.request.Request(f"{site.url}{path}", data=b"", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        assert error.code != 503 or error.headers["Retry-After"]
        return error.code


@pytest.fixture
def engine(tmp_path):
    cluster = Postgres()
    engine = Engine(Sites(tmp_path, cluster).make(), "read-only", lease=LEASE)
    engine.cluster = cluster
    yield engine
    engine.close()
    engine.site.close()
    cluster.stop()


@pytest.mark.timeout(300)
def test_a_database_that_is_read_only_for_a_while(engine):
    """As after a failover to which DNS or a proxy leads, or when a provider locks a full disk.

    The connections that are opened meanwhile answer, and stay read-only when the database is not.
    """
    site, cluster = engine.site, engine.cluster
    worker = engine.start_worker()
    site.start_web()
    waiting_jobs = [job for task in TASKS for job in engine.enqueue(task, WAITING_JOBS)]
    engine.wait_until_started(waiting_jobs)
    assert post(site, "/write/") == 200
    name = site.database_url.rpartition("/")[2]
    cluster.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    cluster.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    engine.open_gate()
    wait_until(
        lambda: len(engine.effects("done", jobs=waiting_jobs)) == len(waiting_jobs),
        timeout=TIMEOUT_SECONDS,
        what="the jobs to end",
    )
    worker.wait_for_line("cannot execute UPDATE in a read-only transaction")
    for _ in range(20):
        assert post(site, "/write/") == 503
    wait_until(lambda: not live_workers(site), timeout=TIMEOUT_SECONDS, what="the lease to end")
    log = site.web.output
    assert log.count("Responded with 503 after a database error") <= 2
    assert "Traceback" not in log and "Internal Server Error" not in log
    cluster.run(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    wait_until(lambda: post(site, "/write/") == 200, timeout=TIMEOUT_SECONDS, what="a write to succeed")
    later = engine.enqueue("work", 20, args=[0.01])
    wait_until(
        lambda: {job.state for job in engine.jobs([*waiting_jobs, *later])} == {"succeeded"},
        timeout=TIMEOUT_SECONDS,
        what="all jobs to succeed",
    )
    assert len(engine.effects("started")) == len(waiting_jobs) + len(later), "A job ran twice."
    assert {job.attempt for job in engine.jobs()} == {1}
    assert worker.running


def live_workers(site):
    return site.rows("SELECT 1 FROM notifications_worker WHERE lease_until > clock_timestamp()")

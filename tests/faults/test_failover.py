"""A failover of PostgreSQL to a streaming standby: the host leads to it while it is read-only, and then it is promoted.

test_unwritable_database.py makes one server read-only. Here connections are lost, the new ones lead to another server
in recovery, and go on when it takes writes; the timeline of the WAL, which is part of the epoch, changes.
"""

import time

import pytest

from tests.faults.test_unwritable_database import TASKS, post
from tests.support.faults.audience import Audience
from tests.support.faults.engine import TIMEOUT_SECONDS, Engine
from tests.support.network import Proxy
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.any_database, pytest.mark.nightly]


class Standby(Postgres):
    """A streaming standby of a cluster, which answers queries and refuses writes until it is promoted."""

    def __init__(self, primary):
        self.primary = primary
        super().__init__()

    def _initialize(self):
        source = ["-h", "127.0.0.1", "-p", str(self.primary.port)]
        return [self._program("pg_basebackup"), *source, "-R", "-c", "fast"]

    def has_all(self):
        """Return whether it has replayed all that its primary has written."""
        written = self.primary.run("SELECT pg_current_wal_insert_lsn()")
        return self.run(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == "t"

    def promote(self):
        self.run("SELECT pg_promote()")


LEASE = 3
#: Seconds from the loss of the primary to the promotion: leases are over, and what fails is tried again many times.
READ_ONLY_SECONDS = 12
#: Their notifications fit in the snapshot that clients get because the epoch has changed.
JOBS, WAITING_JOBS, LATER_JOBS = 20, 4, 20


@pytest.fixture
def primary():
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.fixture
def engine(tmp_path, primary):
    site = Sites(tmp_path, primary).make()
    with Proxy(primary.port) as proxy:
        site.database_url = site.database_url.replace(f":{primary.port}/", f":{proxy.port}/")
        site.environment["DATABASE_URL"] = site.database_url
        engine = Engine(site, "failover", lease=LEASE)
        engine.proxy = proxy
        yield engine
        engine.close()
        site.close()


@pytest.fixture
def standby(engine, primary):
    cluster = Standby(primary)
    yield cluster
    cluster.stop()


@pytest.mark.timeout(300)
def test_a_failover_to_a_standby(engine, primary, standby):
    site = engine.site
    workers = [engine.start_worker() for _ in range(2)]
    site.start_web()
    user = engine.driver.call("open_session", user="demo")
    waiting_jobs = [job for task in TASKS for job in engine.enqueue(task, WAITING_JOBS)]
    engine.wait_until_started(waiting_jobs)
    jobs = engine.enqueue("work", JOBS, args=[0.2])
    with Audience([user], [site.url], engine.rng) as audience:
        wait_until(lambda: engine.effects("done", jobs=jobs), what="the first jobs to be done")
        engine.proxy.cut()
        wait_until(standby.has_all, what="the standby to have all that was committed")
        primary.crash()
        engine.proxy.upstream_port = standby.port
        engine.proxy.restore()
        read_only_since = time.monotonic()
        engine.open_gate()
        for worker in workers:
            worker.wait_for_line("in a read-only transaction")
        while time.monotonic() - read_only_since < READ_ONLY_SECONDS:
            assert post(site, "/write/") == 503
        assert len(engine.effects("done", jobs=[*jobs, *waiting_jobs])) == JOBS + len(waiting_jobs)
        standby.promote()
        wait_until(lambda: post(site, "/write/") == 200, timeout=TIMEOUT_SECONDS, what="a write to succeed")
        later = engine.enqueue("work", LATER_JOBS, args=[0.01])
        engine.wait_until_all_done([*jobs, *waiting_jobs, *later])
        ids = {id for id, job, _ in engine.notifications() if job}
        [client] = audience.clients
        wait_until(lambda: set(client.notifications) == ids, what="the client to have all notifications")
    engine.assert_invariants()
    assert {job.attempt for job in engine.jobs()} == {1}
    assert all(worker.running for worker in workers)

"""PostgreSQL crashes under load and is down for longer than a lease: no job is lost or executed twice."""

import time

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

# The test starts its own cluster, whatever the database of the test run is.
pytestmark = [pytest.mark.any_database, pytest.mark.nightly]

LEASE, WORKERS, WAITING_JOBS = 3, 3, 9


@pytest.fixture
def engine(tmp_path):
    cluster = Postgres()
    engine = Engine(Sites(tmp_path, cluster).make(), "away", lease=LEASE)
    engine.cluster = cluster
    yield engine
    engine.close()
    engine.site.close()
    cluster.stop()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_postgresql_crash(engine):
    """The workers continue with their jobs, although every lease has ended.

    In every other round PostgreSQL is started again immediately.
    """
    workers = [engine.site.start_worker() for _ in range(WORKERS)]
    for number in range(ROUNDS // 5 or 1):
        waiting_jobs = [
            job
            for task in ("wait_for_gate", "wait_for_gate_sync")
            for job in engine.enqueue(task, WAITING_JOBS)
        ]
        engine.wait_until_started(waiting_jobs)
        enqueued = [engine.enqueue(task, 60, args=[0.05]) for task in ("work", "work_sync")]
        wait_until(
            lambda enqueued=enqueued: engine.effects("done", jobs=enqueued[0]),
            timeout=TIMEOUT_SECONDS,
            what="the first jobs to be done",
        )
        settled = {effect.job for effect in engine.effects("started")}
        time.sleep(0.1 + engine.rng.random() * 0.3)
        engine.cluster.crash()
        downtime = LEASE * 1.5 if number % 2 == 0 else 0
        time.sleep(downtime)
        engine.cluster.start()
        wait_until(
            lambda: do_all_hold_leases(engine),
            timeout=TIMEOUT_SECONDS,
            what="every worker to hold a lease again",
        )
        engine.open_gate()
        engine.wait_until_done()
        started = engine.effects("started", jobs={*waiting_jobs, *enqueued[0], *enqueued[1]})
        assert len({effect.job for effect in started}) == 2 * WAITING_JOBS + 120
        # The claim of a job that began within milliseconds before the crash may be lost.
        assert settled.issuperset(waiting_jobs)
        started = engine.effects("started", jobs=settled)
        assert len(started) == len(settled), "A job ran twice."
        assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
        engine.close_gates()
        print(f"{number}: down for {downtime:g} s")
    engine.assert_invariants()
    assert all(worker.running for worker in workers)


def do_all_hold_leases(engine):
    leases = "SELECT count(*) FROM notifications_worker WHERE lease_until > clock_timestamp()"
    return engine.site.rows(leases)[0][0] == WORKERS

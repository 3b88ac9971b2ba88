"""A pool of Django's that is smaller than the worker, or full: the worker goes on, and jobs wait for each other."""

import json

import pytest

from tests.support.faults.engine import Engine

LEASE_SECONDS = 4
#: Seconds for which a thread waits for a connection of the pool.
POOL_TIMEOUT_SECONDS = 2


@pytest.fixture
def start_engine(postgres_site):
    engines = []

    def start(connections):
        pool = {"min_size": connections, "max_size": connections, "timeout": POOL_TIMEOUT_SECONDS}
        postgres_site.environment["TEST_DATABASE_OPTIONS"] = json.dumps({"pool": pool})
        engines.append(Engine(postgres_site, "pool", lease=LEASE_SECONDS))
        engines[0].site.start_worker()
        return engines[0]

    yield start
    for engine in engines:
        engine.close()


def test_jobs_that_hold_all_connections(start_engine):
    """The lease is renewed, and jobs that need no connection are claimed, executed and recorded meanwhile."""
    engine = start_engine(2)
    holding = engine.enqueue("hold_connection_of_async_task", 2)
    engine.wait_until_started(holding)
    engine.wait_until_all_done(engine.enqueue("work", args=[LEASE_SECONDS + 1], user="other"))
    assert {(job.state, job.attempt) for job in engine.jobs(holding)} == {("running", 1)}
    engine.open_gate()
    engine.wait_until_done()
    assert {job.attempt for job in engine.jobs()} == {1}
    engine.assert_invariants()


def test_more_sync_jobs_than_connections(start_engine):
    """No job waits for a connection until it fails: as many run at once as the pool has to spare."""
    engine = start_engine(5)
    jobs = engine.enqueue("hold_connection", 12)
    engine.wait_until_all_done(engine.enqueue("work", args=[POOL_TIMEOUT_SECONDS + 1], user="other"))
    assert [job.state for job in engine.jobs(jobs)].count("running") == 2
    engine.open_gate()
    engine.wait_until_done()
    assert {(job.state, job.attempt) for job in engine.jobs(jobs)} == {("succeeded", 1)}
    engine.assert_invariants()

"""Jobs hold all connections of a pool of Django's: the worker goes on, and keeps them."""

import json

import pytest

from tests.faults.support.engine import Engine

CONNECTIONS = 2
LEASE_SECONDS = 4


@pytest.fixture
def engine(postgres_site):
    pool = {"pool": {"min_size": CONNECTIONS, "max_size": CONNECTIONS}}
    postgres_site.environment["TEST_DATABASE_OPTIONS"] = json.dumps(pool)
    engine = Engine(postgres_site, "pool", lease=LEASE_SECONDS)
    yield engine
    engine.close()


def test_jobs_that_hold_all_connections(engine):
    """The lease is renewed, and jobs that need no connection are claimed, executed and recorded meanwhile."""
    engine.site.start_worker()
    holding = engine.enqueue("hold_connection", CONNECTIONS)
    engine.wait_until_started(holding)
    engine.wait_until_all_done(engine.enqueue("work", args=[LEASE_SECONDS + 1], user="other"))
    assert {(job.state, job.attempt) for job in engine.jobs(holding)} == {("running", 1)}
    engine.open_gate()
    engine.wait_until_done()
    assert {job.attempt for job in engine.jobs()} == {1}
    engine.assert_invariants()

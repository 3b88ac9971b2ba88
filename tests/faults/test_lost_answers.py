"""The database commits, and the worker does not receive the response: no job is lost or executed twice."""

import pytest

from tests.support.faults.engine import Engine
from tests.support.faults.statement_faults import CLAIM, OUTCOME

pytestmark = pytest.mark.nightly


@pytest.fixture
def engine(site):
    engine = Engine(site, "answers")  # No lease ends during the test: the worker itself finds the jobs.
    yield engine
    engine.close()


@pytest.mark.parametrize("statement", [CLAIM, OUTCOME], ids=["claim", "outcome"])
def test_lost_commit_response(engine, statement):
    """Jobs that such a commit has claimed are released. An outcome that it has stored is not stored again."""
    worker = engine.start_worker(fault=f"LOSE_RESPONSE after {statement}")
    jobs = engine.enqueue("work", 3, args=[0])
    engine.wait_until_done()
    assert "The response to COMMIT is lost." in worker.output
    assert {(job.state, job.attempt) for job in engine.jobs(jobs)} == {("succeeded", 1)}
    assert worker.running
    engine.assert_invariants()

"""The database commits, and the worker does not receive the response: no job is left over or executed twice."""

import pytest

from tests.faults.support.engine import Engine
from tests.faults.support.statement_faults import CLAIM, OUTCOME


@pytest.fixture
def engine(site):
    engine = Engine(site, "answers")  # No lease ends: the worker notices by itself.
    yield engine
    engine.close()


@pytest.mark.parametrize("statement", [CLAIM, OUTCOME], ids=["claim", "outcome"])
def test_lost_commit_response(engine, statement):
    """Jobs claimed by such a commit return to the queue; an outcome stored by it is not stored again."""
    worker = engine.start_worker(fault=f"LOSE_RESPONSE after {statement}")
    jobs = engine.enqueue("work", 3, args=[0])
    engine.wait_until_done()
    assert "The response to COMMIT is lost." in worker.output
    assert {(job.state, job.attempt) for job in engine.jobs(jobs)} == {("succeeded", 1)}
    assert worker.running
    engine.assert_invariants()

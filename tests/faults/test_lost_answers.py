"""The database commits, and the worker does not hear of it: nothing is left lying, nothing happens twice."""

import pytest

from tests.faults.support.deaths import CLAIM, OUTCOME
from tests.faults.support.engine import Engine


@pytest.fixture
def engine(site):
    engine = Engine(site, "answers")  # no lease ends: the worker finds out by itself
    yield engine
    engine.close()


@pytest.mark.parametrize("act", [CLAIM, OUTCOME], ids=["claim", "outcome"])
def test_the_answer_to_a_commit_is_lost(engine, act):
    """Jobs that were claimed unheard go back to the queue; an outcome that was stored unheard is not stored again."""
    worker = engine.start_worker(fate=f"DEAF after {act}")
    asked = engine.ask("work", 3, args=[0])
    engine.until_done()
    assert "The answer to COMMIT is lost." in worker.output
    assert {(job.state, job.attempt) for job in engine.jobs(asked)} == {("succeeded", 1)}
    assert worker.running
    engine.assert_law()

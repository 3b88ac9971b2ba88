"""A task ends its process: other jobs of the worker are lost with it at most once, and only its own job fails."""

import json

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.waiting import wait_until

NEIGHBORS = 49


@pytest.fixture
def engine(site):
    engine = Engine(site, "quarantine")
    yield engine
    engine.close()


@pytest.mark.nightly_names("*[end_process_sync]")
@pytest.mark.timeout(120 + 30 * ROUNDS)
@pytest.mark.parametrize("task", ["end_process", "end_process_sync"])
def test_task_that_ends_its_process(engine, task):
    """49 jobs are claimed and lost with it. Each is executed without other quarantined jobs beside it, and succeeds."""
    for _ in range(ROUNDS // 10 or 1):
        # In one transaction, so that one claim has all of them.
        jobs = engine.driver.call("enqueue_with_neighbors", task=task, neighbors=NEIGHBORS, seconds=0.01)
        kills = run_workers(engine)
        ended = engine.jobs(jobs)
        assert {job.task for job in ended if job.state == "succeeded"} == {"work"}
        (killer,) = [job for job in ended if job.state == "failed"]
        assert (killer.task, killer.attempt, json.loads(killer.error)["type"]) == (task, 3, "worker-lost")
        assert kills == 3
        assert {job.attempt for job in ended if job.task == "work"} <= {1, 2}
    assert "Running a quarantined job apart from others" in engine.site.log()
    engine.assert_invariants()


def run_workers(engine):
    """Replace each worker that has ended until all jobs are done; return how many workers have ended."""
    worker = engine.site.start_worker()
    for ends in range(10):
        wait_until(
            lambda worker=worker: not worker.running or not engine.active(),
            timeout=TIMEOUT_SECONDS,
            what="the jobs to be done or the worker to end",
        )
        if not engine.active():
            worker.stop()
            return ends
        worker = engine.site.start_worker()
    raise AssertionError("The jobs have ended ten workers.")

"""A task that ends its process: its neighbors are lost with it once, and only its own job meets its last attempt."""

import json

import pytest

from tests.faults.support.engine import PATIENCE, ROUNDS, Engine
from tests.support.waiting import wait_until

INNOCENT = 49


@pytest.fixture
def engine(site):
    engine = Engine(site, "suspects")
    yield engine
    engine.close()


@pytest.mark.timeout(120 + 30 * ROUNDS)
@pytest.mark.parametrize("task", ["end_process", "end_process_sync"])
def test_a_task_that_ends_its_process_fails_alone(engine, task):
    """49 jobs are claimed with it and lost with it. Each is begun again apart from the others, and succeeds."""
    for _ in range(ROUNDS // 10 or 1):
        # In one transaction, so that one claim has all of them.
        jobs = engine.asker.call("ask_among", task=task, innocent=INNOCENT, seconds=0.01)
        kills = run_to_the_end(engine)
        ended = engine.jobs(jobs)
        assert {job.task for job in ended if job.state == "succeeded"} == {"work"}
        (killer,) = [job for job in ended if job.state == "failed"]
        assert (killer.task, killer.attempt, json.loads(killer.error)["type"]) == (task, 3, "worker-lost")
        assert kills == 3
        assert {job.attempt for job in ended if job.task == "work"} <= {1, 2}
    assert "Running a suspect job apart from others" in engine.site.log()
    engine.assert_law()


def run_to_the_end(engine):
    """Start a worker again each time that one has ended, until all jobs are done; return how often it was."""
    worker = engine.site.start_worker()
    for ends in range(10):
        wait_until(
            lambda worker=worker: not worker.running or not engine.active(),
            timeout=PATIENCE,
            what="the jobs to be done or the worker to end",
        )
        if not engine.active():
            worker.stop()
            return ends
        worker = engine.site.start_worker()
    raise AssertionError("The jobs end one worker after the other.")

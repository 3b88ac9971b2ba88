"""Receivers and policy functions of a project misbehave in a worker: other jobs and the worker are not affected."""

import json

import pytest

from tests.support.faults.engine import ROUNDS, Engine
from tests.support.faults.hostile import FUNCTIONS, RAISING_WAYS, SIGNALS, SLOW_WAYS, WAYS

#: Normal jobs in each round.
NORMAL_JOBS = 60
HANDLERS = {event: ["tests.support.faults.tasks.follow_up"] for event in ("job.succeeded", "job.failed")}
QUICK = [way for way in WAYS if way not in SLOW_WAYS]


@pytest.fixture
def engine(site):
    # The lease is long, so that the test cannot pass only because a lease ends.
    site.notifications |= {"HANDLERS": HANDLERS}
    engine = Engine(site, "hostile", TEST_CHANGES="tests.support.faults.hostile")
    yield engine
    engine.close()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_hostile_code_affects_no_job(engine):
    """Every job ends once with one notification and one job of its handler, and both workers shut down gracefully."""
    workers = [engine.site.start_worker() for _ in range(2)]
    normal_jobs = []
    for number in range(ROUNDS // 5 or 1):
        misbehaviors = choose_misbehaviors(engine.rng)
        print(f"{number}: {len(misbehaviors)} kinds of misbehavior")
        for place, way in misbehaviors:
            engine.enqueue("misbehave", args=[place, way])
            normal_jobs += engine.enqueue("work", count=-(-NORMAL_JOBS // len(misbehaviors)), args=[0])
        engine.wait_until_done(timeout=180)
    engine.assert_invariants()
    jobs = engine.jobs()
    failed = {job.id for job in jobs if job.state == "failed"}
    assert failed == {job.id for job in jobs if job.task == "misbehave" and '"tell_owner"' in job.args}
    follow_ups = [json.loads(job.args)[0]["job"]["id"] for job in jobs if job.task == "follow_up"]
    assert sorted(follow_ups) == sorted(job.id for job in jobs if job.task != "follow_up")
    assert {job.attempt for job in jobs if job.id in normal_jobs} == {1}
    for worker in workers:
        assert worker.running, worker.output
        assert worker.stop() == 0, worker.output
    log = "".join(worker.output for worker in workers)
    for receiver in ("recorded", "finished", "on_task_started", "on_task_finished"):
        assert f"tests.support.faults.hostile.{receiver}" in log, "The log does not name the receiver."
    assert "has ended; jobs released: 0" in log


def choose_misbehaviors(rng):
    """Return (place, way) pairs in random order: all combinations in the long form, else each place and each way."""
    if ROUNDS:
        chosen = [(place, way) for place in SIGNALS for way in QUICK]
    else:
        chosen = [(place, rng.choice(QUICK)) for place in SIGNALS for _ in range(2)]
        chosen += [(place, rng.choice(RAISING_WAYS)) for place in SIGNALS]
    chosen += [(place, way) for place in FUNCTIONS for way in RAISING_WAYS]
    chosen += [("notify", way) for way in WAYS]
    chosen += [("finished", "take_long")]
    rng.shuffle(chosen)
    return chosen

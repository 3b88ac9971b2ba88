"""Workers are killed while they end expired jobs: each ends once, without an attempt, with one notification."""

from collections import Counter
from functools import partial

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.faults.statement_faults import INSERT, OUTCOME
from tests.support.waiting import wait_until

#: More than one transaction ends, with jobs behind them that do not expire.
EXPIRED, PLAIN = 250, 20


@pytest.fixture
def engine(site):
    engine = Engine(site, "expiring")
    yield engine
    engine.close()


def enqueue(engine):
    """Enqueue jobs that have expired and others, and return the ids of both."""
    expired = engine.driver.call("enqueue_for_later", seconds=0, count=EXPIRED, option="expires")
    return expired, engine.enqueue("work", PLAIN, args=[0])


def has_started(workers):
    return any("runs" in worker.output for worker in workers)


def assert_ended_once(engine, expired, plain):
    jobs = {job.id: job for job in engine.jobs()}
    assert Counter((jobs[id].state, jobs[id].attempt) for id in expired) == {("failed", 0): len(expired)}
    assert all('"expired"' in jobs[id].error for id in expired)
    assert {jobs[id].state for id in plain} == {"succeeded"}
    assert not engine.effects(jobs=expired), "An expired job was executed."
    told = Counter(job for _, job, _ in engine.notifications())
    assert told == Counter([*expired, *plain])
    engine.assert_invariants()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f"SIGKILL before {OUTCOME}", marks=pytest.mark.nightly),
        pytest.param(f"SIGKILL after {OUTCOME}", marks=pytest.mark.nightly),
        f"SIGKILL after {INSERT.format('notification')}",
        pytest.param(f"KILL_BEFORE_COMMIT after {OUTCOME}", marks=pytest.mark.nightly),
        f"KILL_AFTER_COMMIT after {OUTCOME}",
        pytest.param(f"LOSE_RESPONSE after {OUTCOME}", marks=pytest.mark.nightly),
    ],
)
def test_killed_while_it_ends_a_chunk(engine, fault):
    expired, plain = enqueue(engine)
    victim = engine.start_worker(fault=fault)
    if "KILL" in fault:
        wait_until(lambda: not victim.running, timeout=TIMEOUT_SECONDS, what="the worker to die")
    engine.start_worker()
    engine.wait_until_done()
    assert_ended_once(engine, expired, plain)


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_workers_end_the_same_jobs(engine):
    """Three, which begin at once, and one of which is killed."""
    all_expired, all_plain = [], []
    for _ in range(ROUNDS or 2):
        expired, plain = enqueue(engine)
        workers = [engine.start_worker() for _ in range(3)]
        started = partial(has_started, workers)
        wait_until(started, timeout=TIMEOUT_SECONDS, what="a worker to start")
        workers[0].kill()
        engine.wait_until_done()
        for worker in workers[1:]:
            worker.kill()
        all_expired += expired
        all_plain += plain
    assert_ended_once(engine, all_expired, all_plain)

"""Workers are killed while they claim, execute, record and take over jobs: no job is lost or notified twice."""

import json
import time
from collections import Counter

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.faults.statement_faults import CLAIM, INSERT, OUTCOME
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres

#: Workers at a time, jobs enqueued in a round, and the last statement at which a worker may die.
WORKERS, JOBS_PER_ROUND, MAX_STATEMENT = 2, 12, 150
#: The maximum time until a worker is killed from outside, without and with a statement at which it should die.
MAX_LIFE_SECONDS, STATEMENT_TIMEOUT_SECONDS = 0.6, 4.0
#: Statements at which a worker dies in the first test.
MOMENTS = (
    f"after {CLAIM}",
    f"after {OUTCOME}",
    f"before {INSERT.format('notification')}",
    f"after {INSERT.format('notification')}",
    f"before {INSERT.format('job')}",
    f"after {INSERT.format('job')}",
    f"after {INSERT.format('stream')}",
    f"before {INSERT.format('operations_jobstatistics')}",
    f"after {INSERT.format('operations_jobstatistics')}",
)
#: Rounds between two checks that every job ends.
ROUNDS_PER_CHECK = 50


@pytest.fixture
def engine(site):
    # No lease ends in this test: jobs are taken over because their worker is known to be dead.
    handler = "tests.support.faults.tasks.follow_up"
    site.notifications["HANDLERS"] = {event: [handler] for event in ("job.succeeded", "job.failed")}
    engine = Engine(site, "kills")
    yield engine
    engine.close()


@pytest.mark.nightly
def test_kills_at_the_worst_moments(engine):
    """A worker dies before or after the claim, the outcome, its notification, a handler's job or the numbering."""
    for moment in MOMENTS:
        worker = engine.start_worker(fault=f"SIGKILL {moment}")
        engine.enqueue("work", 3, args=[0])
        wait_until(
            lambda worker=worker: not worker.running,
            timeout=TIMEOUT_SECONDS,
            what=f"the worker to die {moment}",
        )
        assert worker.popen.returncode == -9, worker.output
    assert_convergence(engine)


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_kills_at_random_points(engine):
    """Every job ends with one notification within its attempts, and so does the job of its handler.

    Half of the workers die before or after one of their statements, the others by a signal at a random time.
    """
    workers = [start_worker(engine) for _ in range(WORKERS)]
    rounds = 5 * ROUNDS or 3
    deaths, totals = Counter(), {}
    for number in range(1, rounds + 1):
        enqueue(engine)
        fault, process = victim = engine.rng.choice(workers)
        deaths[wait_for_death(engine, fault, process)] += 1
        workers[workers.index(victim)] = start_worker(engine)
        before, totals = totals, engine.totals()
        assert all(totals[outcome] >= count for outcome, count in before.items()), "A counter fell."
        if number % ROUNDS_PER_CHECK == 0:
            assert_convergence(engine)
            print_summary(engine, number, deaths)
    assert_convergence(engine)
    print_summary(engine, rounds, deaths)


def print_summary(engine, rounds, deaths):
    ends = Counter(f"{job.state} after {job.attempt}" for job in engine.jobs())
    print(f"{rounds} rounds, killed {dict(deaths)}; jobs {dict(ends)}")


def enqueue(engine):
    tasks = engine.rng.choices(["work", "work_sync"], k=3)
    for task in tasks:
        engine.enqueue(
            task,
            JOBS_PER_ROUND // 3,
            args=[engine.rng.choice([0, 0.01, 0.3, 1])],
            user=engine.rng.choice("ab"),
        )


def start_worker(engine):
    fault = ""
    if engine.rng.random() < 0.5:
        fault = f"SIGKILL {engine.rng.choice(['before', 'after'])} {engine.rng.randint(1, MAX_STATEMENT)}"
    return fault, engine.start_worker("--concurrency", "10", fault=fault)


def wait_for_death(engine, fault, process):
    """Wait until the worker has died at its statement, or kill it while it works; kill one in ten while it starts."""
    dies_at_start = engine.rng.random() < 0.1
    if not dies_at_start:
        wait_until(
            lambda: "runs" in process.output or not process.running,
            timeout=TIMEOUT_SECONDS,
            what="the worker to start",
        )
    until = time.monotonic() + (
        STATEMENT_TIMEOUT_SECONDS if fault else MAX_LIFE_SECONDS * engine.rng.random()
    )
    while process.running and time.monotonic() < until:
        time.sleep(0.005)
    at_statement = not process.running
    process.kill()
    assert process.popen.returncode == -9, process.output
    return "at a statement" if at_statement else "from outside"


def assert_convergence(engine):
    """Check that with a live worker every job ends, although no lease has ended."""
    worker = engine.site.start_worker()
    engine.wait_until_done()
    engine.assert_invariants()
    started = Counter(effect.job for effect in engine.effects("started"))
    done = Counter(effect.job for effect in engine.effects("done"))
    for job in engine.jobs():
        if job.state == "succeeded":
            assert done[job.id], f"{job} succeeded without the effect of its task."
        else:
            assert (job.attempt, json.loads(job.error)["type"]) == (job.max_attempts, "worker-lost"), job
        assert started[job.id] <= job.attempt, job
    events = [json.loads(job.args)[0] for job in engine.jobs() if job.task == "follow_up"]
    followed = Counter(event["notification"]["id"] for event in events)
    notified = Counter(id for id, _, _ in engine.notifications())
    assert followed == notified, "Not every notification has exactly one job."
    worker.stop()

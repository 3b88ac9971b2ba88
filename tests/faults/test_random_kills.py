"""kill -9 at random points, of workers that claim, run, record and take over: nothing is lost, nothing said twice."""

import json
import time
from collections import Counter

import pytest

from tests.faults.support.deaths import CLAIM, INSERT, OUTCOME
from tests.faults.support.engine import PATIENCE, ROUNDS, Engine
from tests.support.waiting import wait_until

#: Workers at a time, jobs asked for in a round, and the last of its statements at which a worker may die.
WORKERS, ASKED, STATEMENTS = 2, 12, 150
#: Seconds of work within which a worker is killed from outside, and those after which it is, if no statement comes.
SECONDS, LATEST = 0.6, 4.0
#: Statements at which a worker dies in the first test.
MOMENTS = (
    f"after {CLAIM}",
    f"after {OUTCOME}",
    f"before {INSERT.format('notification')}",
    f"after {INSERT.format('notification')}",
    f"before {INSERT.format('job')}",
    f"after {INSERT.format('job')}",
    f"after {INSERT.format('stream')}",
)
#: Rounds after which everything must come to its end before it goes on.
CONVERGE = 50


@pytest.fixture
def engine(site):
    # No lease ends in this test: what a dead worker had goes on because it is provably dead.
    engine = Engine(site, "kills")
    yield engine
    engine.close()


def test_kills_at_the_worst_moments(engine):
    """Around the claim, the outcome, its notification, what a receiver asks for, and the numbers: all or nothing."""
    for moment in MOMENTS:
        worker = engine.start_worker(fate=f"SIGKILL {moment}")
        engine.ask("work", 3, args=[0])
        wait_until(
            lambda worker=worker: not worker.running, timeout=PATIENCE, what=f"the worker to die {moment}"
        )
        assert worker.popen.returncode == -9, worker.output
    converge(engine)


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_kills_at_random_points(engine):
    """Every job reaches its end, told once, within its attempts; so does what a receiver of its notification asks for.

    Half of the workers die at one of their statements, before or after it; the others by a signal at some time.
    """
    workers = [start(engine) for _ in range(WORKERS)]
    rounds = 5 * ROUNDS or 5
    deaths = Counter()
    for number in range(1, rounds + 1):
        ask(engine)
        fate, process = victim = engine.chance.choice(workers)
        deaths[meet_its_end(engine, fate, process)] += 1
        workers[workers.index(victim)] = start(engine)
        if number % CONVERGE == 0:
            converge(engine)
            tell(engine, number, deaths)
    converge(engine)
    tell(engine, rounds, deaths)


def tell(engine, rounds, deaths):
    ends = Counter(f"{job.state} after {job.attempt}" for job in engine.jobs())
    print(f"{rounds} rounds, killed {dict(deaths)}; jobs {dict(ends)}")


def ask(engine):
    tasks = engine.chance.choices(["work", "work_sync"], k=3)
    for task in tasks:
        engine.ask(
            task, ASKED // 3, args=[engine.chance.choice([0, 0.01, 0.3, 1])], user=engine.chance.choice("ab")
        )


def start(engine):
    fate = ""
    if engine.chance.random() < 0.5:
        fate = f"SIGKILL {engine.chance.choice(['before', 'after'])} {engine.chance.randint(1, STATEMENTS)}"
    return fate, engine.start_worker("--concurrency", "10", fate=fate)


def meet_its_end(engine, fate, process):
    """Wait until the worker has died at its statement, or kill it while it works; one in ten while it begins."""
    begins = engine.chance.random() < 0.1
    if not begins:
        wait_until(
            lambda: "runs" in process.output or not process.running,
            timeout=PATIENCE,
            what="the worker to begin",
        )
    until = time.monotonic() + (LATEST if fate else SECONDS * engine.chance.random())
    while process.running and time.monotonic() < until:
        time.sleep(0.005)
    by_itself = not process.running
    process.kill()
    assert process.popen.returncode == -9, process.output
    return "at a statement" if by_itself else "from outside"


def converge(engine):
    """With a worker that lives everything comes to its end, although no lease is over."""
    alive = engine.site.start_worker()
    engine.until_done()
    engine.assert_law()
    begun = Counter(effect.job for effect in engine.effects("began"))
    done = Counter(effect.job for effect in engine.effects("done"))
    for job in engine.jobs():
        if job.state == "succeeded":
            assert done[job.id], f"{job} has had no effect."
        else:
            assert (job.attempt, json.loads(job.error)["type"]) == (job.max_attempts, "worker-lost"), job
        assert begun[job.id] <= job.attempt, job
    followed = Counter(json.loads(job.args)[0] for job in engine.jobs() if job.task == "follow_up")
    notified = Counter(id for id, _, _ in engine.notifications())
    assert followed == notified, "Not each notification is followed by exactly one job."
    alive.stop()

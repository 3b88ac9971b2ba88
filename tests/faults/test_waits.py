"""Workers are killed while their jobs begin to wait, wait, and go on."""

from collections import Counter

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine, canonical
from tests.support.faults.statement_faults import INSERT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

#: Workers at a time, jobs in a round, pauses of each, and the last statement at which a worker may die.
WORKERS, JOBS_PER_ROUND, PAUSES, MAX_STATEMENT = 2, 8, 3, 150
#: Statements: of a suspension, and of the end of a wait and of its job's.
SUSPEND, END = r"state='waiting', waiting=", r"UPDATE .?notifications_wait.? SET"
WAKE = r"state='queued', run_after=.* attempt=attempt-1, waiting=NULL"
WAITS = "SELECT job, name, how FROM notifications_wait"


@pytest.fixture
def engine(site):
    engine = Engine(site, "waits")
    yield engine
    engine.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_kills_at_random_points(engine):
    """Every job ends. No pause is lost, none is made twice, and no step that was stored is called again."""
    workers = [start_worker(engine) for _ in range(WORKERS)]
    for _ in range(ROUNDS or 3):
        engine.enqueue("pay_and_pause", JOBS_PER_ROUND, args=[PAUSES, engine.rng.choice([1, 100, 500])])
        victim = engine.rng.choice(workers)
        wait_until(
            lambda victim=victim: "runs" in victim.output or not victim.running,
            timeout=TIMEOUT_SECONDS,
            what="the worker to start",
        )
        wait_until_dead(engine, victim)
        workers[workers.index(victim)] = start_worker(engine)
    engine.site.start_worker()
    engine.wait_until_done()
    jobs = engine.jobs()
    assert {job.state for job in jobs} == {"succeeded"}
    engine.assert_invariants()
    waits = Counter((canonical(job), name, how) for job, name, how in engine.site.rows(WAITS))
    assert waits == Counter((job.id, f"nap {n}", "due") for job in jobs for n in range(PAUSES))
    assert "which is a defect" not in engine.site.log()
    paid = Counter((effect.job, effect.event) for effect in engine.effects())
    assert paid.keys() == {(job.id, f"paid-{n}") for job in jobs for n in range(PAUSES)}
    attempts = {job.id: job.attempt for job in jobs}
    assert all(count <= attempts[job] for (job, _), count in paid.items())
    print(f"{len(jobs)} jobs, {waits.total()} pauses, {paid.total() - len(paid)} calls repeated")


def start_worker(engine):
    fault = ""
    if engine.rng.random() < 0.7:
        numbered = str(engine.rng.randint(1, MAX_STATEMENT))
        statement = engine.rng.choice([SUSPEND, END, WAKE, INSERT.format("wait"), numbered])
        fault = f"SIGKILL {engine.rng.choice(['before', 'after'])} {statement}"
    return engine.start_worker("--concurrency", "10", fault=fault)


def wait_until_dead(engine, worker):
    """Wait until a worker has died at its statement, or kill it after a second at most."""
    try:
        wait_until(lambda: not worker.running, timeout=engine.rng.random(), what="the worker to die")
    except AssertionError:
        worker.kill()
    assert worker.popen.returncode == -9, worker.output

"""Workers are killed while their jobs make paid calls in steps: what is stored is not called again."""

import json
import time
from collections import Counter, defaultdict
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.outbound.upstream import Upstream
from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine, canonical
from tests.support.faults.statement_faults import INSERT
from tests.support.waiting import wait_until

#: Workers at a time, jobs of ten steps enqueued in a round, and the last statement at which a worker may die.
WORKERS, JOBS_PER_ROUND, MAX_STATEMENT = 2, 6, 150
MAX_LIFE_SECONDS = 1.0
#: Seconds that the calls take.
DELAYS, SLOW = [0, 0.01, 0, 0.03, 0.1], [0.1, 0.2, 0.05]
STEPS = "SELECT job, name, result, attempt FROM notifications_steps_step"


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def engine(site):
    engine = Engine(site, "steps")
    yield engine
    engine.close()


def calls_of(upstream):
    """Return the calls that were received: job, number of the step, attempt, and Idempotency-Key."""
    calls = []
    for request in list(upstream.requests):
        query = {name: value for name, [value] in parse_qs(urlsplit(request.path).query).items()}
        key = request.headers["Idempotency-Key"]
        calls.append((query["job"], int(query["step"]), int(query["attempt"]), key))
    return calls


def test_a_job_that_dies_in_the_eighth_of_ten_calls(engine, upstream):
    """It makes three more: the eighth again, with the same Idempotency-Key, and the last two."""
    worker = engine.start_worker()
    [job] = engine.enqueue("pay_ten", args=[upstream.url(""), [0] * 7 + [50] + [0] * 12])
    wait_until(lambda: len(upstream.requests) == 8, timeout=TIMEOUT_SECONDS, what="the eighth call")
    worker.kill()
    assert [step for _, step, _, _ in calls_of(upstream)] == list(range(8))
    engine.start_worker()
    engine.wait_until_all_done([job])
    calls = calls_of(upstream)
    assert [(step, attempt) for _, step, attempt, _ in calls[8:]] == [(7, 2), (8, 2), (9, 2)]
    assert calls[7][3] == calls[8][3]
    assert len({key for *_, key in calls}) == 10


@pytest.mark.nightly
@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_kills_at_random_points(engine, upstream):
    """No step is stored twice, and none that was stored is called again; its calls have one key."""
    workers = [start_worker(engine) for _ in range(WORKERS)]
    for _ in range(ROUNDS or 3):
        engine.enqueue("pay_ten", JOBS_PER_ROUND, args=[upstream.url(""), DELAYS])
        victim = engine.rng.choice(workers)
        wait_for_death(engine, victim)
        workers[workers.index(victim)] = start_worker(engine)
    engine.site.start_worker()
    engine.wait_until_done()
    assert {job.state for job in engine.jobs()} == {"succeeded"}
    engine.assert_invariants()
    assert_paid_once(engine, upstream)


@pytest.mark.nightly
@pytest.mark.timeout(600 + 60 * ROUNDS)
def test_kills_of_celery_workers(celery_site, upstream):
    celery_site.kill_while_jobs_run(ROUNDS or 2, "pay_ten", JOBS_PER_ROUND, [upstream.url(""), SLOW])
    assert_paid_once(celery_site, upstream)


def assert_paid_once(engine, upstream):
    stored_in = {}
    for job, name, result, attempt in engine.site.rows(STEPS):
        step = int(name.removeprefix("pay "))
        assert (canonical(job), step) not in stored_in
        assert json.loads(result) == [step, 200]
        stored_in[canonical(job), step] = attempt
    assert len(stored_in) == 10 * len(engine.jobs())
    attempts, keys = defaultdict(list), defaultdict(set)
    for job, step, attempt, key in calls_of(upstream):
        attempts[job, step].append(attempt)
        keys[job, step].add(key)
    assert attempts.keys() == stored_in.keys()
    for step, called_in in attempts.items():
        assert max(called_in) == stored_in[step], f"{step} was called after it was stored."
        assert max(Counter(called_in).values()) == 1, f"{step} was called twice in an attempt."
        assert len(keys[step]) == 1
    repeated = sum(len(called_in) - 1 for called_in in attempts.values())
    print(f"{len(stored_in)} steps of {len(engine.jobs())} jobs, {repeated} calls repeated")


def start_worker(engine):
    fault = ""
    if engine.rng.random() < 0.5:
        statement = engine.rng.choice(
            [INSERT.format("steps_step"), str(engine.rng.randint(1, MAX_STATEMENT))]
        )
        fault = f"SIGKILL {engine.rng.choice(['before', 'after'])} {statement}"
    return engine.start_worker("--concurrency", "10", fault=fault)


def wait_for_death(engine, worker):
    """Wait until a worker has died at its statement, or kill it while it works."""
    wait_until(
        lambda: "runs" in worker.output or not worker.running,
        timeout=TIMEOUT_SECONDS,
        what="the worker to start",
    )
    until = time.monotonic() + MAX_LIFE_SECONDS * engine.rng.random()
    while worker.running and time.monotonic() < until:
        time.sleep(0.005)
    worker.kill()
    assert worker.popen.returncode == -9, worker.output

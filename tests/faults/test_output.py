"""Workers are killed while their jobs write output: what is stored stays, and each attempt writes its own."""

import re
import time

import pytest

from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine, canonical
from tests.support.faults.statement_faults import INSERT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

WORKERS, JOBS_PER_ROUND, NUMBERS, MAX_LIFE_SECONDS = 2, 6, 200, 1.5
CHUNKS = "SELECT job, start, text, fence FROM notifications_output_outputchunk ORDER BY job, start"
MARKS = re.compile(r"\n\x1e(attempt \d+|continued)\n")


@pytest.fixture
def engine(site):
    engine = Engine(site, "output")
    yield engine
    engine.close()


def read_outputs(engine):
    """Return the text of each job. Each chunk begins where the one before it ends, and fences do not fall."""
    texts, fences = {}, {}
    for job, start, text, fence in engine.site.rows(CHUNKS):
        id = canonical(job)
        assert start == len(texts.get(id, ""))
        assert fence >= fences.get(id, 0)
        texts[id], fences[id] = texts.get(id, "") + text, fence
    return texts


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_kills_at_random_points(engine):
    """All that was stored before a kill is there after it; an attempt writes from its start, the last one all."""
    workers = [start_worker(engine) for _ in range(WORKERS)]
    seen = {}
    for _ in range(ROUNDS or 3):
        engine.enqueue("write_numbers", JOBS_PER_ROUND, args=[NUMBERS, 0.003])
        victim = engine.rng.choice(workers)
        wait_for_death(engine, victim)
        now = read_outputs(engine)
        for job, text in seen.items():
            assert now[job].startswith(text)
        seen = now
        workers[workers.index(victim)] = start_worker(engine)
    engine.site.start_worker()
    engine.wait_until_done()
    assert {job.state for job in engine.jobs()} == {"succeeded"}
    outputs = assert_written(engine)
    assert all(outputs[job].startswith(text) for job, text in seen.items())


@pytest.mark.timeout(600 + 60 * ROUNDS)
def test_kills_of_celery_workers(celery_site):
    celery_site.kill_while_jobs_run(ROUNDS or 2, "write_numbers", JOBS_PER_ROUND, [NUMBERS, 0.01])
    assert_written(celery_site)


def assert_written(engine):
    """Check that the last attempt of each job has written all, and each other one a beginning. Returns the outputs."""
    written = "".join(f"{number} " for number in range(NUMBERS))
    outputs, repeated = read_outputs(engine), 0
    for job in engine.jobs():
        *earlier, last = MARKS.split(outputs[canonical(job.id)])[::2]
        assert last == written
        assert all(written.startswith(text) and text for text in earlier)
        repeated += len(earlier)
    print(f"output of {len(outputs)} jobs, {repeated} executions that wrote were repeated")
    return outputs


def start_worker(engine):
    fault = ""
    if engine.rng.random() < 0.5:
        fault = f"SIGKILL {engine.rng.choice(['before', 'after'])} {INSERT.format('output_outputchunk')}"
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

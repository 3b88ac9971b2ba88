"""Celery's processes, its broker and the server die while Celery runs jobs: each job ends once, and is notified once.

FAULT_ROUNDS=100 python -m pytest tests/faults/test_celery.py      rounds of the long form
FAULT_KINDS=kill_redis,kill_child                                  only these faults
FAULT_SEED=…                                                       repeat the choices of a failed run
"""

import os
import threading
import time
from collections import Counter

import pytest

from tests.support.faults.audience import Audience, assert_received
from tests.support.faults.engine import ROUNDS, SEED

pytestmark = pytest.mark.nightly

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

KINDS = tuple(filter(None, os.environ.get("FAULT_KINDS", "").split(",")))
FAULTS = KINDS or (
    *("kill_worker", "kill_child", "freeze_child", "restart_worker", "kill_web"),
    *("kill_redis", "cut_redis", "lose_messages", "double_messages", "reorder_messages"),
)
#: Rounds of the short form, jobs enqueued in each, and faults in each at most.
SHORT_ROUNDS, JOBS_PER_ROUND, MAX_FAULTS_PER_ROUND = 2, 30, 3
#: The maximum time until all jobs have ended after the last fault of a round.
CONVERGENCE_SECONDS = 60


@pytest.mark.parametrize("celery_site", [0.0, 0.9], indirect=True, ids=["all arrive", "nine of ten are lost"])
@pytest.mark.timeout(240 + 90 * (ROUNDS or SHORT_ROUNDS))
def test_jobs_end_once_while_processes_die(celery_site):
    """Rounds of jobs of all kinds with random faults, which a WebSocket client of their owner follows."""
    site = celery_site.site
    site.start_web()
    celery_site.start_pools()
    session = celery_site.driver.call("open_session")
    counts = Counter()
    with Audience([session], [site.url], celery_site.rng) as audience:
        for number in range(ROUNDS or SHORT_ROUNDS):
            faults = celery_site.rng.sample(
                FAULTS, min(len(FAULTS), celery_site.rng.randint(1, MAX_FAULTS_PER_ROUND))
            )
            counts.update(faults)
            try:
                seconds = run_round(celery_site, number, faults)
                assert_received(audience.clients[0], celery_site.driver.call("notifications"))
            except AssertionError as error:
                raise AssertionError(f"FAULT_SEED={SEED}, round {number}: {faults}\n{error}") from error
            print(f"{number} {' '.join(faults)}: {seconds:.1f} s", flush=True)
    ends = Counter(f"{job.state} after {job.attempt}" for job in celery_site.jobs())
    print(f"{ROUNDS or SHORT_ROUNDS} rounds, faults {dict(counts)}; jobs {dict(ends)}")
    print(f"Celery workers that ended by themselves: {celery_site.ended_by_themselves}")


def run_round(celery_site, number, faults):
    """Enqueue jobs while the faults happen, check the end of all jobs, and return the seconds until then."""
    enqueuer = celery_site.start_driver()
    errors = []

    def enqueue():
        try:
            enqueuer.call("enqueue_burst", seed=f"{SEED}-{number}", count=JOBS_PER_ROUND)
        except AssertionError as error:
            errors.append(error)

    thread = threading.Thread(target=enqueue)
    thread.start()
    try:
        for fault in faults:
            time.sleep(celery_site.rng.random())
            getattr(celery_site, fault)()
    finally:
        thread.join()
        enqueuer.stop()
    assert not errors, errors
    started = time.monotonic()
    celery_site.wait_until_done(timeout=CONVERGENCE_SECONDS)
    seconds = time.monotonic() - started
    celery_site.assert_invariants(silent=celery_site.jobs_in_batches())
    done = Counter(effect.job for effect in celery_site.effects("done"))
    for job in celery_site.jobs():
        assert job.state == "succeeded", job
        assert done[job.id] or job.task == "batch", f"{job} succeeded without the effect of its task."
    return seconds

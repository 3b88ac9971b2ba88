"""Of many jobs one in twenty does not succeed: all counts are consistent."""

import json
from collections import Counter

import pytest

from tests.support.faults.engine import ROUNDS, Engine
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.nightly, pytest.mark.nightly_on_postgres]

JOBS = 10_000 if ROUNDS else 500
USERS = 10
#: The tasks of every twentieth job, in turn. Half of the cancelled jobs are cancelled by their owner.
FAILING_TASKS = ("fail", "time_out", "wait_to_be_cancelled", "wait_to_be_cancelled_sync")
STATES = {"fail": "failed", "time_out": "failed"} | dict.fromkeys(FAILING_TASKS[2:], "cancelled")
ERRORS = {"fail": "task-failed", "time_out": "timed-out"} | dict.fromkeys(FAILING_TASKS[2:], "cancelled")
OUTCOMES = {"fail": "failed", "time_out": "timed_out"} | dict.fromkeys(FAILING_TASKS[2:], "cancelled")


@pytest.fixture
def engine(site):
    engine = Engine(site, "counts", lease=20)
    yield engine
    engine.close()


@pytest.mark.timeout(600)
def test_consistent_counts(engine):
    """States, results, errors, attempts, notifications, unread counts and seqs of 10,000 jobs (short form: 1,000)."""
    kinds = {number: FAILING_TASKS[number // 20 % len(FAILING_TASKS)] for number in range(0, JOBS, 20)}
    for _ in range(2):
        engine.site.start_worker()
    engine.driver.call("enqueue_mixed", users=USERS, each=JOBS // USERS, kinds=kinds)
    for task, by_owner in (("wait_to_be_cancelled", True), ("wait_to_be_cancelled_sync", False)):
        wait_until(
            lambda task=task, by_owner=by_owner: (
                not engine.driver.call("cancel_running", task=task, by_owner=by_owner)
            ),
            timeout=300,
            every=0.2,
            what="all jobs of this task to be cancelled",
        )
    engine.wait_until_done(timeout=300)
    jobs = engine.jobs()
    assert len(jobs) == JOBS
    for job in jobs:
        (number,) = json.loads(job.args)
        kind = kinds.get(number, "noop")
        assert (job.task, job.state, job.attempt) == (kind, STATES.get(kind, "succeeded"), 1), job
        if kind == "noop":
            assert (json.loads(job.result), job.error) == (number, None), job
        else:
            assert (job.result, json.loads(job.error)["type"]) == (None, ERRORS[kind]), job
    expected = Counter(OUTCOMES[kind] for kind in kinds.values())
    attempts = "SELECT outcome, count(*) FROM notifications_attempt GROUP BY outcome"
    assert dict(engine.site.rows(attempts)) == expected
    silent = {job.id for job in jobs if job.task == "wait_to_be_cancelled"}
    assert_consistent_streams(engine, jobs, silent)
    engine.assert_invariants(silent=silent)
    print(f"{JOBS} jobs: {dict(Counter(job.state for job in jobs))}, attempts {dict(expected)}")


def assert_consistent_streams(engine, jobs, silent):
    """Check that each user's stream has the unread count and the head that follow from the jobs."""
    notified = Counter(job.user for job in jobs if job.id not in silent)
    numbered = notified + Counter(job.user for job in jobs)
    streams = engine.site.rows("SELECT user_id, unread, head FROM notifications_stream")
    assert {user: (unread, head) for user, unread, head in streams} == {
        user: (notified[user], numbered[user]) for user in numbered
    }

"""Many jobs of which one in twenty does not succeed: everything adds up exactly."""

import json
from collections import Counter

import pytest

from tests.faults.support.engine import ROUNDS, Engine
from tests.support.waiting import wait_until

JOBS = 10_000 if ROUNDS else 1_000
USERS = 10
#: What the task of every twentieth job does, in turn. Of half of what is cancelled it is the owner who wants it.
BADLY = ("fail", "time_out", "wait_to_be_cancelled", "wait_to_be_cancelled_sync")
STATES = {"fail": "failed", "time_out": "failed"} | dict.fromkeys(BADLY[2:], "cancelled")
ERRORS = {"fail": "task-failed", "time_out": "timed-out"} | dict.fromkeys(BADLY[2:], "cancelled")
OUTCOMES = {"fail": "failed", "time_out": "timed_out"} | dict.fromkeys(BADLY[2:], "cancelled")


@pytest.fixture
def engine(site):
    engine = Engine(site, "counts", lease=20)
    yield engine
    engine.close()


@pytest.mark.timeout(600)
def test_the_counts_add_up(engine):
    """States, results, errors, attempts, notifications, unread counts and numbers of 10,000 jobs, 1,000 in short."""
    kinds = {number: BADLY[number // 20 % len(BADLY)] for number in range(0, JOBS, 20)}
    for _ in range(2):
        engine.site.start_worker()
    engine.asker.call("ask_mixed", users=USERS, each=JOBS // USERS, kinds=kinds)
    for task, by_owner in (("wait_to_be_cancelled", True), ("wait_to_be_cancelled_sync", False)):
        wait_until(
            lambda task=task, by_owner=by_owner: (
                not engine.asker.call("cancel_running", task=task, by_owner=by_owner)
            ),
            timeout=300,
            every=0.2,
            what="all of these to be cancelled",
        )
    engine.until_done(timeout=300)
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
    assert_streams_add_up(engine, jobs, silent)
    engine.assert_law(silent=silent)
    print(f"{JOBS} jobs: {dict(Counter(job.state for job in jobs))}, attempts {dict(expected)}")


def assert_streams_add_up(engine, jobs, silent):
    """Each user's stream counts what that user was told of, and its head what was numbered."""
    told = Counter(job.user for job in jobs if job.id not in silent)
    numbered = told + Counter(job.user for job in jobs)
    streams = engine.site.rows("SELECT user_id, unread, head FROM notifications_stream")
    assert {user: (unread, head) for user, unread, head in streams} == {
        user: (told[user], numbered[user]) for user in numbered
    }

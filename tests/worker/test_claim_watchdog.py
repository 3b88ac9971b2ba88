"""A worker that claims no job although some are ready logs what it waits for, and begins to claim anew."""

import threading

import pytest
from django.db import connection

from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.waiting import wait_until

LOCK = 4711


@pytest.fixture(autouse=True)
def short_stall(monkeypatch):
    for name, seconds in (("STALLED_SECONDS", 0.5), ("CHECK_INTERVAL_SECONDS", 0.1)):
        monkeypatch.setattr(f"notifications.worker.claim_watchdog.{name}", seconds)


@pytest.fixture
def released():
    """An event for which a hanging call waits. It is set after the test."""
    event = threading.Event()
    yield event
    event.set()


def count_restarts(caplog):
    return sum("No job was claimed for" in record.getMessage() for record in caplog.records)


def hang_in_a_call(claim_loop, released, monkeypatch):
    """The thread of the claims does not come back, from whatever."""
    claim, is_hanging = claim_loop._claim, threading.Event()

    def hang():
        monkeypatch.setattr(claim_loop, "_claim", claim)
        is_hanging.set()
        released.wait(60)
        return claim()

    monkeypatch.setattr(claim_loop, "_claim", hang)
    # Otherwise the claim before this one might take the job, whose outcome SQLite's only writer then cannot record.
    assert is_hanging.wait(60)


def lose_the_wake(claim_loop, released, monkeypatch):
    """The event for which the loop waits is not set any more."""
    monkeypatch.setattr("notifications.worker.claim_loop.POLL_INTERVAL_SECONDS", 600)
    monkeypatch.setattr("notifications.worker.claim_loop.SENDER_CLAIM_INTERVAL_SECONDS", 0)
    claim_loop._next_sender_claim = 0
    loop = claim_loop._task.get_loop()
    is_woken = threading.Event()
    loop.call_soon_threadsafe(lambda: (claim_loop.wake(), is_woken.set()))
    assert is_woken.wait(60)  # the wait that follows has the long interval
    wait_until(lambda: not claim_loop._wake.is_set() and claim_loop._wake._waiters, what="the loop to wait")
    monkeypatch.setattr(claim_loop._wake, "set", lambda: None)


@pytest.mark.parametrize("hang", [hang_in_a_call, lose_the_wake])
def test_a_claim_that_does_not_return_is_given_up(start_worker, caplog, released, monkeypatch, hang):
    """Jobs run on, and the log has the stacks once."""
    claim_loop = start_worker().worker._claim_loop
    until_done(tasks.noop.enqueue())
    rounds = 2 if hang is hang_in_a_call else 1
    for _ in range(rounds):
        hang(claim_loop, released, monkeypatch)
        until_done(tasks.noop.enqueue())
    monkeypatch.undo()  # the loop is woken to stop
    assert count_restarts(caplog) == rounds
    (stacks,) = [text for text in caplog.messages if "Threads of the worker that claims no job" in text]
    assert "Thread notifications-writer-1:" in stacks
    assert ("released.wait(60)" in stacks) == (hang is hang_in_a_call)


def test_a_claim_that_waits_for_a_lock_of_the_database(start_worker, caplog, monkeypatch):
    """The log names the wait, and the session that holds the lock."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no locks that are waited for without end.")
    claim_loop = start_worker().worker._claim_loop
    until_done(tasks.noop.enqueue())
    claim, is_waiting = claim_loop._claim, threading.Event()

    def wait_for_lock():
        monkeypatch.setattr(claim_loop, "_claim", claim)
        is_waiting.set()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        return claim()

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s), pg_backend_pid()", [LOCK])
        pid = cursor.fetchone()[1]
        monkeypatch.setattr(claim_loop, "_claim", wait_for_lock)
        assert is_waiting.wait(60)
        until_done(tasks.noop.enqueue())
        cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    (sessions,) = [text for text in caplog.messages if "Sessions of its database" in text]
    assert f"active, waits for Lock advisory, blocked by [{pid}]" in sessions


def test_jobs_that_may_not_be_claimed_are_no_stall(start_worker, caplog, gate, user):
    """A job with the same concurrency key runs."""
    worker = start_worker(concurrency=2).worker
    held = [tasks.one_an_owner.using(owner=user).enqueue() for _ in range(2)]
    wait_until(lambda: tasks.held, what="the first job to run")
    checks = []
    check = worker._claim_watchdog._are_jobs_ready

    async def count(executors):
        checks.append(await check(executors))
        return checks[-1]

    worker._claim_watchdog._are_jobs_ready = count
    wait_until(lambda: len(checks) > 10, what="several checks")
    gate.set()
    until_done(*held)
    assert not any(checks) and count_restarts(caplog) == 0

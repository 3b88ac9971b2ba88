"""The wall clocks of the host and of the database are shifted: jobs may be late, and none is lost."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.faults.clock import CREATE_SHIFTED_CLOCK, SET_SEARCH_PATH
from tests.support.faults.engine import ROUNDS, TIMEOUT_SECONDS, Engine
from tests.support.waiting import wait_until

LEASE, WORKERS, WAITING_JOBS = 2, 2, 4
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


@pytest.fixture
def engine(site, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    engine = Engine(site, "clock", lease=LEASE, FAULT_CLOCK=str(clock))
    engine.clock = clock
    if not site.database_url.startswith("sqlite"):
        name = site.database_url.rpartition("/")[2]
        execute(site, CREATE_SHIFTED_CLOCK)
        execute(site, SET_SEARCH_PATH.format(name))
    yield engine
    engine.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_shifted_clock(engine):
    """Running jobs continue although the shift exceeds the lease, in both directions. The workers run new jobs."""
    workers = [engine.site.start_worker() for _ in range(WORKERS)]
    shifts = [2 * MINUTE, -2 * MINUTE, -HOUR, 0]
    shifts += [engine.rng.choice([-1, 1]) * engine.rng.uniform(LEASE, 4 * MINUTE) for _ in range(ROUNDS // 5)]
    waiting_jobs = [
        job for task in ("wait_for_gate", "wait_for_gate_sync") for job in engine.enqueue(task, WAITING_JOBS)
    ]
    engine.wait_until_started(waiting_jobs)
    for seconds in shifts:
        shift_clocks(engine, seconds)
        engine.wait_until_all_done(engine.enqueue("work", 3, args=[0]))
        wait_until(
            lambda: do_all_hold_leases(engine),
            timeout=TIMEOUT_SECONDS,
            what="every worker to hold a lease again",
        )
        print(f"shifted by {seconds:+.0f} s")
    engine.open_gate()
    engine.wait_until_done()
    assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
    engine.assert_invariants()
    assert all(worker.running for worker in workers)


@pytest.mark.nightly
def test_clock_shifted_by_a_day(engine):
    """Jobs past their deadline are started again and end once. Scheduled jobs become due and are executed."""
    workers = [engine.site.start_worker() for _ in range(WORKERS)]
    waiting_jobs = [
        job for task in ("wait_for_gate", "wait_for_gate_sync") for job in engine.enqueue(task, WAITING_JOBS)
    ]
    engine.wait_until_started(waiting_jobs)
    later = engine.driver.call("enqueue_for_later", seconds=HOUR, count=2)
    assert not engine.effects("started", jobs=later)
    shift_clocks(engine, DAY)
    engine.wait_until_all_done(later)
    engine.wait_until_started(waiting_jobs, 2 * len(waiting_jobs))
    shift_clocks(engine, 0)
    engine.wait_until_all_done(engine.enqueue("work", 3, args=[0]))
    engine.open_gate()
    engine.wait_until_done()
    assert {job.state for job in engine.jobs()} == {"succeeded"}
    assert {job.attempt for job in engine.jobs(waiting_jobs)} == {2}
    engine.assert_invariants()
    assert all(worker.running for worker in workers)


@pytest.mark.nightly
def test_wait_that_a_fast_clock_has_stored(engine):
    """It takes longer than it was meant to by as much as the clock was fast, and not more."""
    jump, nap = 20, 2
    engine.site.start_worker()
    shift_clocks(engine, jump)
    jobs = engine.enqueue("pay_and_pause", 3, args=[1, 1000 * nap])
    wait_until(
        lambda: [job.state for job in engine.jobs(jobs)] == ["waiting"] * 3,
        timeout=TIMEOUT_SECONDS,
        what="the jobs to wait",
    )
    begun = time.monotonic()
    shift_clocks(engine, 0)
    engine.wait_until_all_done(jobs)
    assert time.monotonic() - begun < jump + nap + 10
    assert {job.state for job in engine.jobs(jobs)} == {"succeeded"}
    engine.assert_invariants()


def shift_clocks(engine, seconds):
    """Set the clocks of the host and of the database in random order: in production they never change together."""
    moves = [lambda: set_clock(engine.clock, seconds)]
    if not engine.site.database_url.startswith("sqlite"):
        moves.append(lambda: execute(engine.site, f"UPDATE shifted.clock SET seconds = {seconds}"))
    for step in engine.rng.sample(moves, len(moves)):
        step()


def set_clock(file, seconds):
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    os.replace(new, file)  # Atomic for readers.


def do_all_hold_leases(engine):
    """Return whether every worker has a lease by the current clock that is not much longer than LEASE."""
    now = datetime.now(UTC) + timedelta(seconds=float(engine.clock.read_text()))
    leases = []
    for (until,) in engine.site.rows("SELECT lease_until FROM notifications_worker"):
        until = datetime.fromisoformat(until) if isinstance(until, str) else until
        leases.append(until if until.tzinfo else until.replace(tzinfo=UTC))
    return sum(now < until <= now + timedelta(seconds=LEASE + 1) for until in leases) == WORKERS


def execute(site, sql):
    import psycopg

    with psycopg.connect(site.database_url, autocommit=True) as connection:
        connection.execute(sql)

"""The wall clock is moved, of the workers' host and of the database: jobs are late, none is lost."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.support.clock import MOVED, SEARCHED
from tests.faults.support.engine import PATIENCE, ROUNDS, Engine
from tests.support.waiting import wait_until

LEASE, WORKERS, HELD = 2, 2, 4
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


@pytest.fixture
def engine(site, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    engine = Engine(site, "clock", lease=LEASE, FAULT_CLOCK=str(clock))
    engine.clock = clock
    if not site.database_url.startswith("sqlite"):
        name = site.database_url.rpartition("/")[2]
        execute(site, MOVED)
        execute(site, SEARCHED.format(name))
    yield engine
    engine.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_the_clock_is_moved(engine):
    """Beyond every lease and back: running jobs stay where they are, new ones are done, by the same workers."""
    workers = [engine.site.start_worker() for _ in range(WORKERS)]
    moves = [2 * MINUTE, -2 * MINUTE, -HOUR, 0]
    moves += [
        engine.chance.choice([-1, 1]) * engine.chance.uniform(LEASE, 4 * MINUTE) for _ in range(ROUNDS // 5)
    ]
    held = [job for task in ("hold", "hold_sync") for job in engine.ask(task, HELD)]
    engine.until_begun(held)
    for to in moves:
        move(engine, to)
        engine.until_all_done(engine.ask("work", 3, args=[0]))
        wait_until(
            lambda: all_hold_leases(engine), timeout=PATIENCE, what="every worker to hold a lease again"
        )
        print(f"moved to {to:+.0f} s")
    engine.open()
    engine.until_done()
    assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
    engine.assert_law()
    assert all(worker.running for worker in workers)


def test_the_clock_is_moved_by_a_day(engine):
    """Deadlines of running jobs are over too: they are begun anew, and end once. What was for later is done now."""
    workers = [engine.site.start_worker() for _ in range(WORKERS)]
    held = [job for task in ("hold", "hold_sync") for job in engine.ask(task, HELD)]
    engine.until_begun(held)
    later = engine.asker.call("ask_for_later", seconds=HOUR, count=2)
    assert not engine.effects("began", jobs=later)
    move(engine, DAY)
    engine.until_all_done(later)
    engine.until_begun(held, 2 * len(held))
    move(engine, 0)
    engine.until_all_done(engine.ask("work", 3, args=[0]))
    engine.open()
    engine.until_done()
    assert {job.state for job in engine.jobs()} == {"succeeded"}
    assert {job.attempt for job in engine.jobs(held)} == {2}
    engine.assert_law()
    assert all(worker.running for worker in workers)


def move(engine, seconds):
    """The clock of the host and that of the database, one after the other: they never move at the same moment."""
    moves = [lambda: set_clock(engine.clock, seconds)]
    if not engine.site.database_url.startswith("sqlite"):
        moves.append(lambda: execute(engine.site, f"UPDATE moved.clock SET seconds = {seconds}"))
    for step in engine.chance.sample(moves, len(moves)):
        step()


def set_clock(file, seconds):
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    os.replace(new, file)  # nobody reads half of it


def all_hold_leases(engine):
    """Whether every worker has a lease by the clock as it is now, which is not much longer than one."""
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

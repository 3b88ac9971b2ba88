"""Workers frozen past their lease, again and again: what was taken over from them they cannot change any more."""

import signal
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.support.engine import PATIENCE, ROUNDS, Engine
from tests.support.waiting import wait_until

#: Seconds of a lease, jobs that come and go while a worker is frozen.
LEASE, SHORT = 2, 6
#: A transaction that is open for so long here is one of a frozen worker.
STUCK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '0.5 seconds'
"""


@pytest.fixture
def engine(site):
    engine = Engine(site, "fencing", lease=LEASE)
    yield engine
    for process in site.processes:
        if process.running:
            process.popen.send_signal(signal.SIGCONT)
    engine.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_a_frozen_worker_changes_nothing(engine):
    """SIGSTOP, another worker takes over, SIGCONT: one outcome, one notification, and no write by the stale one.

    In every other round the job is still running at the other worker when the stale one goes on. One is held at a time:
    of what a lost worker ran another one runs no more.
    """
    workers = [engine.site.start_worker(), engine.site.start_worker()]
    for number in range(ROUNDS or 4):
        held = engine.ask(("hold", "hold_sync")[number // 2 % 2])
        begun = engine.until_begun(held)
        engine.ask("work", SHORT, args=[0.01])
        engine.ask("work_sync", SHORT, args=[0.01])
        # Each of them must live on with its new lease, and take over in its turn.
        frozen, other = workers if (number + number // 2) % 2 else workers[::-1]
        if not (theirs := {effect.job for effect in begun if effect.pid == frozen.pid}):
            frozen, other, theirs = other, frozen, set(held)
        said = len(frozen.output)
        freeze_outside_transactions(engine, frozen)
        engine.until_begun(theirs, 2 * len(theirs))
        wait_until(
            lambda theirs=theirs, other=other: said_by(engine, theirs) == {str(other.pid)},
            timeout=PATIENCE,
            what="their progress",
        )
        if late := number % 2:
            engine.open(frozen.pid)
            frozen.popen.send_signal(signal.SIGCONT)
            until_it_noticed(frozen, said, theirs)
            assert said_by(engine, theirs) == {str(other.pid)}, "The stale worker has written its progress."
            engine.open(other.pid)
            until_over(engine, theirs)
        else:
            engine.open(other.pid)
            until_over(engine, theirs)
            before = rows_of(engine, theirs)
            engine.open(frozen.pid)
            frozen.popen.send_signal(signal.SIGCONT)
            until_it_noticed(frozen, said, theirs)
            assert rows_of(engine, theirs) == before
        engine.open()
        engine.until_done()
        for job in engine.jobs(theirs):
            assert (job.state, job.attempt, job.result) == ("succeeded", 2, str(other.pid)), job
        void = frozen.output[said:].count(" is void")
        print(f"{number} {'late' if late else 'over'}: {len(theirs)} jobs taken over, {void} outcomes void")
        engine.close_gates()
    engine.assert_law()
    assert all(worker.running for worker in workers)


def freeze_outside_transactions(engine, worker):
    """At a random moment; again, if it holds a lock that others need: nobody could take over then."""
    while True:
        time.sleep(engine.chance.random() * 0.2)
        worker.popen.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(worker.pid), what="every thread to stop")
        if not holds_a_lock(engine.site):
            return
        worker.popen.send_signal(signal.SIGCONT)


def is_stopped(pid):
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


def holds_a_lock(site):
    if not site.database_url.startswith("sqlite"):
        time.sleep(0.6)
        return site.rows(STUCK)[0][0] > 0
    with closing(sqlite3.connect(site.database_url.removeprefix("sqlite:///"), timeout=1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def said_by(engine, ids):
    """The processes whose progress is stored for these jobs."""
    return {job.message for job in engine.jobs(ids)}


def until_over(engine, ids):
    wait_until(
        lambda: {job.state for job in engine.jobs(ids)} == {"succeeded"},
        timeout=PATIENCE,
        what="the other worker to finish",
    )
    engine.until_numbered()


def until_it_noticed(worker, said, ids):
    def noticed():
        new = worker.output[said:]
        return all(f"another worker has claimed job {id}" in new for id in ids)

    wait_until(noticed, timeout=PATIENCE, what="the stale worker to notice")


def rows_of(engine, ids):
    """Every column of these jobs, of what was recorded about them, and of the streams of nobody else."""
    keys = {form for id in ids for form in (id, uuid.UUID(id).hex)}
    return {
        table: [row for row in rows if keys & set(map(str, row))]
        for table, rows in engine.everything().items()
    }

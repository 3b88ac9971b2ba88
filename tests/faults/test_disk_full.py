"""The disk under SQLite is full: outcomes wait until there is space, and the worker continues by itself."""

import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.support.faults.engine import ROUNDS, Engine
from tests.support.site import Site
from tests.support.waiting import wait_until

DISK_SIZE = "6m"


@pytest.fixture
def disk(tmp_path):
    """A small disk. Mounting it needs root."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", mount_point],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"Cannot mount a small disk: {mounted.stderr.strip()}")
    yield mount_point
    subprocess.run(["umount", "--lazy", mount_point], check=True)


@pytest.fixture
def engine(site, disk, tmp_path):
    if not site.database_url.startswith("sqlite"):
        pytest.skip("Only the database file of SQLite is on this disk.")
    shutil.copy(site.database_url.removeprefix("sqlite:///"), disk / "site.sqlite3")
    small = Site(tmp_path, f"sqlite:///{disk / 'site.sqlite3'}")
    engine = Engine(small, "disk", lease=4)
    yield engine
    engine.close()
    small.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_full_disk(engine, disk):
    """Outcomes and claims wait for space. Then each job ends with one notification, and none has run twice."""
    worker = engine.site.start_worker()
    for number in range(ROUNDS // 10 or 1):
        log_start = len(worker.output)
        wait_until(lambda: truncate_log(disk), what="SQLite's log to be empty")
        waiting_jobs = [
            job for task in ("wait_for_gate", "wait_for_gate_sync") for job in engine.enqueue(task, 6)
        ]
        engine.wait_until_started(waiting_jobs)
        queued = engine.enqueue("work", 40, args=[0.5])
        filler = fill_disk(disk)
        engine.open_gate()
        worker.wait_until(
            lambda log_start=log_start: "Could not record" in worker.output[log_start:],
            what="the worker to find the disk full",
        )
        filler.unlink()
        engine.wait_until_done()
        assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
        started = engine.effects("started", jobs={*waiting_jobs, *queued})
        assert len(started) == len({effect.job for effect in started}) == 52, "A job ran twice."
        engine.close_gates()
        print(f"{number}: {worker.output[log_start:].count('full')} writes failed")
    engine.assert_invariants()
    assert worker.running


@pytest.mark.nightly
@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_full_database_file(site, tmp_path):
    """The same with a limited database file: SQLite reports that the disk is full."""
    if not site.database_url.startswith("sqlite"):
        pytest.skip("Only SQLite has a database file that the test can limit.")
    full = tmp_path / "full"
    engine = Engine(site, "pages", lease=4, FAULT_FULL=str(full))
    try:
        worker = site.start_worker()
        for _ in range(ROUNDS // 10 or 1):
            log_start = len(worker.output)
            waiting_jobs = [
                job for task in ("wait_for_gate", "wait_for_gate_sync") for job in engine.enqueue(task, 20)
            ]
            engine.wait_until_started(waiting_jobs)
            queued = engine.enqueue("work", 40, args=[0.5])
            full.touch()
            engine.open_gate()
            worker.wait_until(
                lambda log_start=log_start: "database or disk is full" in worker.output[log_start:],
                what="the worker to find the disk full",
            )
            full.unlink()
            engine.wait_until_done()
            assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
            started = engine.effects("started", jobs={*waiting_jobs, *queued})
            assert len(started) == len({effect.job for effect in started}) == 80, "A job ran twice."
            engine.close_gates()
        engine.assert_invariants()
        assert worker.running
    finally:
        engine.close()


def truncate_log(disk):
    """Truncate the write-ahead log, whose file could otherwise be reused without space on the disk."""
    with closing(sqlite3.connect(disk / "site.sqlite3", timeout=1)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def fill_disk(disk):
    """Write until the disk is full, and return the file."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return filler

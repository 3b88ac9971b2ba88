"""The disk under SQLite is full: what is done waits until there is room, and the worker goes on by itself."""

import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.faults.support.engine import ROUNDS, Engine
from tests.support.site import Site
from tests.support.waiting import wait_until

SIZE = "6m"


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own. It needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"No small disk can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def engine(site, disk, tmp_path):
    if not site.database_url.startswith("sqlite"):
        pytest.skip("It is SQLite's disk.")
    shutil.copy(site.database_url.removeprefix("sqlite:///"), disk / "site.sqlite3")
    small = Site(tmp_path, f"sqlite:///{disk / 'site.sqlite3'}")
    engine = Engine(small, "disk", lease=4)
    yield engine
    engine.close()
    small.close()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_the_disk_is_full_for_a_while(engine, disk):
    """Outcomes wait in the worker, claims too. With room again each job ends, told once, and none has run twice."""
    worker = engine.site.start_worker()
    for number in range(ROUNDS // 10 or 1):
        said = len(worker.output)
        wait_until(lambda: empty_the_log(disk), what="SQLite's log to have no room of its own")
        held = [job for task in ("hold", "hold_sync") for job in engine.ask(task, 6)]
        engine.until_begun(held)
        queued = engine.ask("work", 40, args=[0.5])
        filler = fill(disk)
        engine.open()
        worker.wait_until(
            lambda said=said: "outcomes wait" in worker.output[said:], what="the worker to find the disk full"
        )
        filler.unlink()
        engine.until_done()
        assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
        begun = engine.effects("began", jobs={*held, *queued})
        assert len(begun) == len({effect.job for effect in begun}) == 52, "A job ran twice."
        engine.close_gates()
        print(f"{number}: {worker.output[said:].count('full')} writes found no room")
    engine.assert_law()
    assert worker.running


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_the_database_may_not_grow_for_a_while(site, tmp_path):
    """The same where no small disk can be mounted: SQLite itself says that there is no room."""
    if not site.database_url.startswith("sqlite"):
        pytest.skip("It is SQLite's file.")
    full = tmp_path / "full"
    engine = Engine(site, "pages", lease=4, FAULT_FULL=str(full))
    try:
        worker = site.start_worker()
        for _ in range(ROUNDS // 10 or 1):
            said = len(worker.output)
            held = [job for task in ("hold", "hold_sync") for job in engine.ask(task, 20)]
            engine.until_begun(held)
            queued = engine.ask("work", 40, args=[0.5])
            full.touch()
            engine.open()
            worker.wait_until(
                lambda said=said: "database or disk is full" in worker.output[said:],
                what="the worker to find no room",
            )
            full.unlink()
            engine.until_done()
            assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
            begun = engine.effects("began", jobs={*held, *queued})
            assert len(begun) == len({effect.job for effect in begun}) == 80, "A job ran twice."
            engine.close_gates()
        engine.assert_law()
        assert worker.running
    finally:
        engine.close()


def empty_the_log(disk):
    """The write-ahead log is used again from its beginning: what fits into the file needs no room on the disk."""
    with closing(sqlite3.connect(disk / "site.sqlite3", timeout=1)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def fill(disk):
    """Write until there is no room for a byte more."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return filler

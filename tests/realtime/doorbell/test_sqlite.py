"""The listener of a SQLite file: inotify, polling, and errors."""

import errno
import os
import shutil
import socket
import sqlite3
import sys
import time
from contextlib import closing, contextmanager, suppress
from types import SimpleNamespace

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection, connections

from notifications.models import Ring
from notifications.realtime import listen
from notifications.realtime.doorbell import doorbell, sqlite
from notifications.realtime.doorbell.sqlite import Inotify
from tests.support.waiting import wait_until

on_sqlite = pytest.mark.skipif("postgres" in os.environ.get("DATABASE_URL", ""), reason="needs a SQLite file")


@contextmanager
def listening():
    """Yield the users that the listener rings from now on."""
    rung = set()
    stop = listen(lambda users, queue: rung.update(users))
    wait_until(lambda: doorbell._listener.is_listening)
    yield rung
    stop()


@pytest.fixture
def rung(transactional_db):
    with listening() as rung:
        yield rung


def ring_as_other_process(user):
    Ring.objects.create(user_id=user.pk, origin=-1)


@on_sqlite
def test_changes_are_carried(transactional_db, user, other_user):
    """Those of other processes; of a user whose ring carries nothing in another row, nothing is."""
    received = {}
    stop = listen(lambda users, queue: received.update(users))
    wait_until(lambda: doorbell._listener.is_listening)
    first, later = ('e1,0,1,2,3,4\n{"title":"Жанна 🎉"}', "e1,0,2,3,3,4\n{}")
    rings = [(user, first), (other_user, first), (user, later), (other_user, None)]
    Ring.objects.bulk_create(Ring(user=owner, origin=-1, change=change) for owner, change in rings)
    wait_until(lambda: len(received) == 2)
    assert [change.to_text() for change in received[user.pk]] == [first, later]
    assert received[other_user.pk] == ()
    stop()


@on_sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="inotify needs Linux")
def test_inotify_wakes_the_listener(transactional_db, user, monkeypatch):
    """inotify wakes the listener; with polling alone the ring would arrive after 10 minutes."""
    for name in ("UNREPORTED_POLL_INTERVAL_SECONDS", "IDLE_POLL_INTERVAL_SECONDS"):
        monkeypatch.setattr(sqlite, name, 600)
    with listening() as rung:
        time.sleep(sqlite.SLOW_COMMIT_SECONDS + 0.2)
        ring_as_other_process(user)
        wait_until(lambda: rung == {user.pk})
        listener = doorbell._listener
    assert not listener.is_running  # stop() wakes it too


@on_sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="inotify needs Linux")
def test_file_is_polled_if_inotify_reports_no_writes(transactional_db, user, monkeypatch):
    """A write that inotify did not report, as on some file systems, is found, and later ones are polled for."""
    monkeypatch.setattr(Inotify, "wait", lambda self, seconds: time.sleep(seconds))
    with listening() as rung:
        listener = doorbell._listener
        wait_until(lambda: listener._poll_interval() == sqlite.IDLE_POLL_INTERVAL_SECONDS)
        ring_as_other_process(user)
        wait_until(lambda: rung == {user.pk})
        wait_until(lambda: listener._poll_interval() == sqlite.UNREPORTED_POLL_INTERVAL_SECONDS)


class Clock:
    """A clock that moves while code sleeps."""

    def __init__(self):
        self.now = 100.0
        self.sleeps = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds


class TestPolling:
    """After a write that inotify reports, the file is polled until its commit is seen."""

    @pytest.fixture
    def clock(self, monkeypatch):
        clock = Clock()
        monkeypatch.setattr(sqlite, "time", clock)
        return clock

    @pytest.fixture
    def listener(self, monkeypatch):
        monkeypatch.setattr(sqlite.SqliteListener, "_listen", lambda self: None)
        monkeypatch.setattr(sqlite.SqliteListener, "_read_rings", lambda self, execute: None)
        listener = sqlite.SqliteListener(lambda *args, **options: None)
        yield listener
        listener.stop()

    @pytest.fixture
    def next_interval(self, listener, clock):
        """Return ``next_interval(reports, *versions)``: the next interval when inotify reports and SQLite has these.

        The first wait takes its whole interval unless inotify reports a write.
        """

        def next_interval(reports, *versions):
            reports = iter(reports)

            def wait(seconds):
                has_write = next(reports, False)
                clock.now += 0 if has_write else seconds
                return has_write

            read = iter([(version,) for version in versions])
            execute = lambda sql: SimpleNamespace(fetchone=lambda: next(read))  # noqa: E731
            listener._wait_for_commit(execute, SimpleNamespace(wait=wait))
            assert next(read, None) is None
            return listener._poll_interval()

        return next_interval

    def test_until_the_commit_of_the_write(self, next_interval):
        assert next_interval([True], 0, 0) == sqlite.COMMIT_POLL_INTERVAL_SECONDS
        assert next_interval([], 0) == pytest.approx(sqlite.COMMIT_POLL_INTERVAL_SECONDS)
        assert next_interval([], 1) == sqlite.IDLE_POLL_INTERVAL_SECONDS
        assert next_interval([True], 1, 2) == sqlite.IDLE_POLL_INTERVAL_SECONDS

    def test_slow_commit_is_polled_at_growing_intervals(self, next_interval):
        """Every 5 ms at least in the first 0.1 s, every 20 ms at least until a second has passed."""
        intervals = [next_interval([True], 0, 0)]
        while intervals[-1] != sqlite.IDLE_POLL_INTERVAL_SECONDS:
            intervals.append(next_interval([], 0))
        assert intervals == sorted(intervals)
        assert len(intervals) < 80
        assert max(intervals[:20]) == 0.005
        assert max(intervals[:-1]) == 0.02
        assert sum(intervals[:-1]) >= sqlite.SLOW_COMMIT_SECONDS - 0.01

    def test_time_to_the_commit_is_learned(self, next_interval, listener, clock):
        """The first check after a write follows when its commit usually is visible."""
        version = 0
        for _ in range(100):
            next_interval([True], version, version)
            version += 1
            clock.now += 0.003
            next_interval([], version)
        assert listener.commit_seconds > 0.003
        for _ in range(100):
            clock.now += 1
            next_interval([True], version, version + 1)
            version += 1
        assert clock.sleeps[-1] < 0.0001

    def test_very_slow_commits_do_not_delay_the_next_ones(self, next_interval, listener, clock):
        for version in range(50):
            next_interval([True], version, version)
            clock.now += 0.5
            next_interval([], version + 1)
        assert listener.commit_seconds <= sqlite.MAX_COMMIT_SECONDS

    def test_burst_is_checked_once_per_interval(self, next_interval, clock):
        """However many transactions commit meanwhile."""
        next_interval([True], 1)
        started = clock.now
        for version in range(2, 12):
            next_interval([True], version)
        assert clock.now - started == pytest.approx(10 * sqlite.POLL_INTERVAL_SECONDS)

    def test_a_commit_that_is_there_already_may_be_an_earlier_one(self, next_interval):
        """The write may be that of another transaction, whose commit waits for the disk."""
        assert next_interval([True], 1) == sqlite.POLL_INTERVAL_SECONDS
        assert next_interval([], 1) < sqlite.IDLE_POLL_INTERVAL_SECONDS
        assert next_interval([], 2) == sqlite.IDLE_POLL_INTERVAL_SECONDS

    def test_a_write_during_the_wait_may_be_that_of_another_transaction(self, next_interval):
        """The commit that is seen then may be that of the first one."""
        assert next_interval([True, True], 0, 1) == sqlite.POLL_INTERVAL_SECONDS
        assert next_interval([], 1) < sqlite.IDLE_POLL_INTERVAL_SECONDS
        assert next_interval([], 2) == sqlite.IDLE_POLL_INTERVAL_SECONDS

    def test_a_commit_whose_write_is_reported_at_that_moment(self, next_interval):
        """It does not count as one that inotify does not report, after which the file would be polled for good."""
        next_interval([False, True], 1)
        assert next_interval([], 1) < sqlite.IDLE_POLL_INTERVAL_SECONDS
        assert next_interval([], 2) == sqlite.IDLE_POLL_INTERVAL_SECONDS


@on_sqlite
def test_without_inotify_the_file_is_polled(transactional_db, user, monkeypatch):
    """Without inotify, as on other systems or above the limit of instances, rings are found by polling."""

    def refuse(paths, wake_fd):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(sqlite, "Inotify", refuse)
    with listening() as rung:
        ring_as_other_process(user)
        wait_until(lambda: rung == {user.pk})


def list_inotify_descriptors():
    """Return those of this process. Threads of other tests open and close descriptors of other kinds meanwhile."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if "inotify" in os.readlink(f"/proc/self/fd/{number}"):
                found.add(number)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="inotify needs Linux")
def test_inotify_skips_missing_files_and_raises_other_errors(tmp_path):
    """Missing files are skipped; any other error is raised, and the file descriptor is closed."""
    existing = tmp_path / "existing"
    existing.touch()
    reader, writer = socket.socketpair()
    with reader, writer:
        before = list_inotify_descriptors()
        with pytest.raises(NotADirectoryError):
            Inotify([str(existing), str(existing / "child")], reader.fileno())
        assert list_inotify_descriptors() <= before
        with closing(Inotify([str(tmp_path / "missing"), str(existing)], reader.fileno())) as inotify:
            assert not inotify.wait(0)
            existing.write_text("something")
            assert inotify.wait(5)
            assert not inotify.wait(0)


@on_sqlite
def test_listener_leaks_no_file_descriptors(transactional_db):
    """Starting and stopping the listener repeatedly leaves no file descriptors open."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        with listening():
            pass
    assert before == 0 or len(os.listdir("/proc/self/fd")) < before + 10


@pytest.fixture
def quick_identity_check(set_bounds):
    """The file is checked for another one, and watched again after an error, after 20 ms."""
    set_bounds(beats=0.02)


@on_sqlite
def test_replaced_file_is_watched(rung, user, quick_identity_check):
    """A file that replaces the database, as a restored backup does, is watched from then on."""
    path = connection.settings_dict["NAME"]
    copy = f"{path}.copy"
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, copy)
    listener = doorbell._listener
    first = listener.file_id
    os.replace(copy, path)
    wait_until(lambda: listener.file_id not in (None, first))
    # No connection of this process may keep the old file open, including that of the async tests' thread.
    connection.close()
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    key = Ring._meta.get_field("user").get_db_prep_value(user.pk, connection)
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as other:
        other.execute("INSERT INTO notifications_ring (user_id) VALUES (?)", [key])
    wait_until(lambda: rung == {user.pk})


@on_sqlite
def test_listener_survives_errors(rung, user, quick_identity_check, caplog):
    """The listener logs an error of the database and continues."""

    def rename(table, name):
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")

    rename("notifications_ring", "moved")
    wait_until(lambda: "A thread failed, and goes on: notifications-doorbell-sqlite" in caplog.text)
    rename("moved", "notifications_ring")

    def ring_arrives():
        ring_as_other_process(user)
        return rung == {user.pk}

    wait_until(ring_arrives)

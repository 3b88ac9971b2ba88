"""Rings within this process, and between processes on SQLite."""

import errno
import os
import shutil
import socket
import sqlite3
import sys
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection, connections, transaction

from notifications import ids, streams
from notifications.models import Ring
from notifications.realtime import doorbell as module
from notifications.realtime import listen
from notifications.realtime.doorbell import Doorbell, doorbell, sqlite
from notifications.realtime.doorbell.sqlite import Inotify
from tests.support.waiting import wait_until

on_sqlite = pytest.mark.skipif("postgres" in os.environ.get("DATABASE_URL", ""), reason="needs a SQLite file")


class Calls(list):
    """A callback that records (time, users, queue)."""

    def __call__(self, users, queue):
        self.append((time.monotonic(), set(users), queue))

    @property
    def users(self):
        return set().union(*(users for _, users, _ in self))


@pytest.fixture
def calls(transactional_db):
    calls = Calls()
    stop = listen(calls)
    wait_until(lambda: doorbell._listener is None or doorbell._listener.is_listening)
    yield calls
    stop()


@pytest.fixture
def as_other_process(monkeypatch):
    """Rings of this process look like another process's: they send no local signal and have another origin."""
    monkeypatch.setattr(module.rung, "send_robust", lambda **kwargs: [])
    monkeypatch.setattr(streams.rings, "process_number", lambda: ids.process_number() + 1)


def test_callbacks_are_called_after_commit(calls, user, other_user):
    """Callbacks are called after the commit, not in the transaction and not after a rollback."""
    with transaction.atomic():
        streams.ring([user.pk])
        time.sleep(0.05)
        assert not calls
    wait_until(lambda: calls.users == {user.pk})
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        streams.ring([other_user.pk])
        raise ZeroDivisionError
    streams.ring([], queue=True)
    wait_until(lambda: any(queue for _, _, queue in calls))
    assert calls.users == {user.pk}


def test_rings_within_5_ms_are_combined(calls):
    """The first ring is dispatched immediately, later ones together within COALESCE_SECONDS."""
    started = time.monotonic()
    doorbell.ring([1])
    assert calls.users == {1}
    for user in range(2, 500):
        doorbell.ring([user], queue=user == 300)
    wait_until(lambda: calls.users == set(range(1, 500)))
    assert len(calls) <= 2 * (time.monotonic() - started) / module.COALESCE_SECONDS + 2
    assert sum(queue for _, _, queue in calls) == 1


def test_failing_callback_does_not_affect_others(calls, caplog):
    """If a callback fails, the error is logged and the other callbacks are called."""

    def fails(users, queue):
        raise RuntimeError("no")

    stop = listen(fails)
    doorbell.ring([1])
    stop()
    assert calls.users == {1}
    assert "A doorbell callback failed" in caplog.text


def test_stop_ends_calls_and_listener(transactional_db):
    """After stop() the callback is not called, and the listener has ended."""
    calls, bell = Calls(), Doorbell()
    stop = bell.listen(calls)
    stop()
    bell.ring([1])
    assert not calls
    assert bell._listener is None


@on_sqlite
def test_rings_of_other_processes_arrive(calls, user, as_other_process):
    """A ring of another process arrives with its users and queue flag in one call."""
    streams.ring([user.pk], queue=True)
    wait_until(lambda: calls.users == {user.pk})
    assert calls[0][2]


@on_sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="inotify needs Linux")
def test_inotify_wakes_the_listener(transactional_db, user, as_other_process, monkeypatch):
    """inotify wakes the listener; with polling alone the ring would arrive after 10 minutes."""
    monkeypatch.setattr(sqlite, "UNREPORTED_POLL_INTERVAL_SECONDS", 600)
    monkeypatch.setattr(sqlite, "IDLE_POLL_INTERVAL_SECONDS", 600)
    calls = Calls()
    stop = listen(calls)
    wait_until(lambda: doorbell._listener.is_listening)
    time.sleep(sqlite.SLOW_COMMIT_SECONDS + 0.2)
    streams.ring([user.pk])
    wait_until(lambda: calls.users == {user.pk})
    thread = doorbell._listener._thread
    stop()
    assert not thread.is_alive()  # stop() wakes it too


@on_sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="inotify needs Linux")
def test_file_is_polled_if_inotify_reports_no_writes(transactional_db, user, as_other_process, monkeypatch):
    """A write that inotify did not report, as on some file systems, is found, and later ones are polled for."""
    monkeypatch.setattr(Inotify, "wait", lambda self, seconds: time.sleep(seconds))
    calls = Calls()
    stop = listen(calls)
    wait_until(lambda: doorbell._listener.is_listening)
    listener = doorbell._listener
    wait_until(lambda: listener._poll_interval() == sqlite.IDLE_POLL_INTERVAL_SECONDS)
    streams.ring([user.pk])
    wait_until(lambda: calls.users == {user.pk})
    wait_until(lambda: listener._poll_interval() == sqlite.UNREPORTED_POLL_INTERVAL_SECONDS)
    stop()


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
        monkeypatch.setattr(sqlite.SqliteListener, "_run", lambda self: None)
        monkeypatch.setattr(sqlite.SqliteListener, "_read_rings", lambda self, execute: None)
        listener = sqlite.SqliteListener(lambda *args, **options: None)
        with listener._stop_reader, listener._stop_writer:
            yield listener

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
def test_without_inotify_the_file_is_polled(transactional_db, user, as_other_process, monkeypatch):
    """Without inotify, as on other systems or above the limit of instances, rings are found by polling."""

    def refuse(paths, wake_fd):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(sqlite, "Inotify", refuse)
    calls = Calls()
    stop = listen(calls)
    wait_until(lambda: doorbell._listener.is_listening)
    streams.ring([user.pk])
    wait_until(lambda: calls.users == {user.pk})
    stop()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify needs Linux")
def test_inotify_skips_missing_files_and_raises_other_errors(tmp_path, monkeypatch):
    """Missing files are skipped; any other error is raised, and the file descriptor is closed."""
    existing = tmp_path / "existing"
    existing.touch()
    closed = []
    close = Inotify.close
    reader, writer = socket.socketpair()
    with reader, writer:
        with monkeypatch.context() as patch, pytest.raises(NotADirectoryError):
            patch.setattr(Inotify, "close", lambda self: closed.append(close(self)))
            Inotify([str(existing), str(existing / "child")], reader.fileno())
        assert closed
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
        stop = listen(Calls())
        wait_until(lambda: doorbell._listener.is_listening)
        stop()
    assert before == 0 or len(os.listdir("/proc/self/fd")) < before + 10


@on_sqlite
def test_rings_of_this_process_arrive_once(calls, user):
    """A ring of this process arrives once, although it is also in the file."""
    with transaction.atomic():
        streams.ring([user.pk])
    assert calls.users == {user.pk}
    ring_id = latest_ring_id()
    wait_until(lambda: doorbell._listener.last_ring_id >= ring_id)
    time.sleep(0.02)
    assert len(calls) == 1


def latest_ring_id():
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM notifications_ring")
        return cursor.fetchone()[0]


@on_sqlite
def test_replaced_file_is_watched(calls, user, monkeypatch):
    """A file that replaces the database, as a restored backup does, is watched from then on."""
    monkeypatch.setattr(sqlite, "IDENTITY_CHECK_SECONDS", 0.02)
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
    wait_until(lambda: calls.users == {user.pk})


@on_sqlite
def test_listener_survives_errors(calls, user, as_other_process, monkeypatch, caplog):
    """The listener logs an error of the database and continues."""
    monkeypatch.setattr(sqlite, "IDENTITY_CHECK_SECONDS", 0.02)
    read_rings, failures = doorbell._listener._read_rings, [sqlite3.OperationalError("database is locked")]

    def fail_once(*args):
        if failures:
            raise failures.pop()
        return read_rings(*args)

    monkeypatch.setattr(doorbell._listener, "_read_rings", fail_once)
    streams.ring([user.pk])
    wait_until(lambda: not failures and "Could not watch the SQLite file" in caplog.text)

    def ring_arrives():
        streams.ring([user.pk])
        return calls.users == {user.pk}

    wait_until(ring_arrives)


def test_rings_from_many_threads_all_arrive(calls):
    """Rings from several threads at once all arrive, also those between two dispatches."""

    def ring(start):
        for user in range(start, start + 100):
            doorbell.ring([user])

    threads = [threading.Thread(target=ring, args=(1000 * number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_users = {1000 * number + user for number in range(1, 6) for user in range(100)}
    wait_until(lambda: calls.users >= all_users)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_receives_its_own_rings(transactional_db):
    """A forked process receives its own rings: it starts its own threads and has its own origin."""
    bell = doorbell
    stop = bell.listen(Calls())
    parent = ids.process_number()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            calls = Calls()
            bell.listen(calls)
            bell.ring([1])
            bell.ring([2])
            deadline = time.monotonic() + 60
            while calls.users != {1, 2} and time.monotonic() < deadline:
                time.sleep(0.005)
            os.write(write, b"y" if calls.users == {1, 2} and ids.process_number() != parent else b"n")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.waitpid(child, 0)
    stop()

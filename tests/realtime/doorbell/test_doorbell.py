"""Rings: gathered, from this process once, from other processes on SQLite."""

import errno
import os
import shutil
import sqlite3
import sys
import threading
import time
from contextlib import closing

import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction

from notifications import ids, streams
from notifications.models import Ring
from notifications.realtime import doorbell as module
from notifications.realtime.doorbell import Doorbell, doorbell, listen, sqlite
from notifications.realtime.doorbell.inotify import Inotify
from tests.support.waiting import wait_until

on_sqlite = pytest.mark.skipif(
    "postgres" in os.environ.get("DATABASE_URL", ""), reason="rings by the file are SQLite's own"
)


class Heard(list):
    """A listener that notes (time, users, queue)."""

    def __call__(self, users, queue):
        self.append((time.monotonic(), set(users), queue))

    @property
    def users(self):
        return set().union(*(users for _, users, _ in self))


@pytest.fixture
def heard(transactional_db):
    heard = Heard()
    stop = listen(heard)
    wait_until(lambda: doorbell._watcher is None or doorbell._watcher.hearing)
    yield heard
    stop()


@pytest.fixture
def user(transactional_db):
    return get_user_model().objects.create_user("ada")


@pytest.fixture
def elsewhere(monkeypatch):
    """What rings here does so as another process would: without the signal of this one, and under another number."""
    monkeypatch.setattr(module.rung, "send_robust", lambda **kwargs: [])
    monkeypatch.setattr(streams.rings, "process", lambda: ids.process() + 1)


def test_a_ring_comes_after_the_commit(heard, user):
    """Not while the transaction is open, and not when it is rolled back."""
    other = get_user_model().objects.create_user("bob")
    with transaction.atomic():
        streams.ring([user.pk])
        time.sleep(0.05)
        assert not heard
    wait_until(lambda: heard.users == {user.pk})
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        streams.ring([other.pk])
        raise ZeroDivisionError
    streams.ring([], queue=True)
    wait_until(lambda: any(queue for _, _, queue in heard))
    assert heard.users == {user.pk}


def test_rings_are_gathered(heard):
    """The first is told at once, what comes within 5 ms after it in one call."""
    began = time.monotonic()
    doorbell.ring([1])
    assert heard.users == {1}
    for user in range(2, 500):
        doorbell.ring([user], queue=user == 300)
    wait_until(lambda: heard.users == set(range(1, 500)))
    assert len(heard) <= 2 * (time.monotonic() - began) / module.COALESCE_SECONDS + 2
    assert sum(queue for _, _, queue in heard) == 1


def test_a_listener_that_fails_costs_others_nothing(heard, caplog):
    """Its error is logged."""

    def fails(users, queue):
        raise RuntimeError("no")

    stop = listen(fails)
    doorbell.ring([1])
    stop()
    assert heard.users == {1}
    assert "A listener of the doorbell failed" in caplog.text


def test_who_stopped_listening_hears_nothing(transactional_db):
    """And nothing runs for it any more."""
    heard, bell = Heard(), Doorbell()
    stop = bell.listen(heard)
    stop()
    bell.ring([1])
    assert not heard
    assert bell._watcher is None


@on_sqlite
def test_rings_of_other_processes_are_heard(heard, user, elsewhere):
    """Users and queue in one call."""
    streams.ring([user.pk], queue=True)
    wait_until(lambda: heard.users == {user.pk})
    assert heard[0][2]


@on_sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's own")
def test_linux_tells_of_the_write(transactional_db, user, elsewhere, monkeypatch):
    """The watcher sleeps until then: here for ever, but for that."""
    monkeypatch.setattr(sqlite, "CALM", 600)
    heard = Heard()
    stop = listen(heard)
    wait_until(lambda: doorbell._watcher.hearing)
    time.sleep(sqlite.RESTLESS * 2)
    streams.ring([user.pk])
    wait_until(lambda: heard.users == {user.pk})
    doorbell._watcher._ended.set()
    streams.ring([user.pk])  # or it would sleep on
    stop()


@on_sqlite
def test_where_nobody_tells_of_writes_the_file_is_looked_at(transactional_db, user, elsewhere, monkeypatch):
    """On another system, or when the user has too many instances of inotify."""

    def refuse(paths):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(sqlite, "Inotify", refuse)
    heard = Heard()
    stop = listen(heard)
    wait_until(lambda: doorbell._watcher.hearing)
    streams.ring([user.pk])
    wait_until(lambda: heard.users == {user.pk})
    stop()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's own")
def test_what_cannot_be_watched_is_said(tmp_path, monkeypatch):
    """A file that is not there is left out; anything else is an error, and leaves nothing open."""
    there = tmp_path / "there"
    there.touch()
    closed = []
    really = Inotify.close
    with monkeypatch.context() as noting, pytest.raises(NotADirectoryError):
        noting.setattr(Inotify, "close", lambda self: closed.append(really(self)))
        Inotify([str(there), str(there / "below")])
    assert closed
    with closing(Inotify([str(tmp_path / "missing"), str(there)])) as writes:
        assert not writes.wait(0)
        there.write_text("something")
        assert writes.wait(5)
        assert not writes.wait(0)


@on_sqlite
def test_the_watcher_gives_back_what_it_opened(transactional_db):
    """Also after many begins and ends."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        stop = listen(Heard())
        wait_until(lambda: doorbell._watcher.hearing)
        stop()
    assert before == 0 or len(os.listdir("/proc/self/fd")) < before + 10


@on_sqlite
def test_rings_of_this_process_are_heard_once(heard, user):
    """Though they stand in the file as well."""
    with transaction.atomic():
        streams.ring([user.pk])
    assert heard.users == {user.pk}
    last = latest_ring()
    wait_until(lambda: watched() >= last)
    time.sleep(0.02)
    assert len(heard) == 1


def latest_ring():
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM notifications_ring")
        return cursor.fetchone()[0]


def watched():
    return doorbell._watcher.last


@on_sqlite
def test_a_file_put_in_its_place_is_watched(heard, user, monkeypatch):
    """As a restored backup is: another file of the same name."""
    monkeypatch.setattr(sqlite, "IDENTITY_CHECK_SECONDS", 0.02)
    path = connection.settings_dict["NAME"]
    kept = f"{path}.kept"
    with closing(sqlite3.connect(path)) as before:
        before.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, kept)
    watcher = doorbell._watcher
    first = watcher.file
    os.replace(kept, path)
    wait_until(lambda: watcher.file not in (None, first))
    # Nothing of this process may go on with the other file; async tests have a thread with a connection of its own.
    connection.close()
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    key = Ring._meta.get_field("user").get_db_prep_value(user.pk, connection)
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as other:
        other.execute("INSERT INTO notifications_ring (user_id) VALUES (?)", [key])
    wait_until(lambda: heard.users == {user.pk})


@on_sqlite
def test_the_watcher_survives_errors(heard, user, elsewhere, monkeypatch, caplog):
    """A busy or broken database: it starts again."""
    monkeypatch.setattr(sqlite, "IDENTITY_CHECK_SECONDS", 0.02)
    real, failures = doorbell._watcher._read, [sqlite3.OperationalError("database is locked")]

    def read(*args):
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(doorbell._watcher, "_read", read)
    streams.ring([user.pk])
    wait_until(lambda: not failures and "starts again" in caplog.text)

    def rings_again():
        streams.ring([user.pk])
        return heard.users == {user.pk}

    wait_until(rings_again)


def test_rings_from_many_threads_all_arrive(heard):
    """None is lost between gathering and telling."""

    def ring(start):
        for user in range(start, start + 100):
            doorbell.ring([user])

    threads = [threading.Thread(target=ring, args=(1000 * number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everyone = {1000 * number + user for number in range(1, 6) for user in range(100)}
    wait_until(lambda: heard.users >= everyone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_hears_its_own_rings(transactional_db):
    """The threads of the parent are not there; who listens in the child is told all the same, as another process."""
    bell = doorbell
    stop = bell.listen(Heard())
    here = ids.process()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            heard = Heard()
            bell.listen(heard)
            bell.ring([1])
            bell.ring([2])
            deadline = time.monotonic() + 60
            while heard.users != {1, 2} and time.monotonic() < deadline:
                time.sleep(0.005)
            os.write(write, b"y" if heard.users == {1, 2} and ids.process() != here else b"n")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.waitpid(child, 0)
    stop()

"""Rings within this process, and between processes on SQLite."""

import asyncio
import os
import threading
import time

import pytest
from django.db import connection, transaction
from django.test import TransactionTestCase

from notifications import streams
from notifications.models import Ring
from notifications.realtime import doorbell as module
from notifications.realtime import listen
from notifications.realtime.doorbell import Doorbell, doorbell
from tests.realtime.layers import Dropping
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres

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


def test_changes_of_combined_rings_are_merged(transactional_db):
    """In their order; of a user whose one ring carries nothing, nothing is carried."""
    calls = []
    stop = listen(lambda users, queue: calls.append(dict(users)))
    doorbell._next_dispatch_at = time.monotonic() + 0.5
    for changes in ({1: ("a",), 2: ("a",)}, {1: ("b",), 3: ("b",)}):
        doorbell.ring([1, 2, 3], changes=changes)
    wait_until(lambda: calls)
    stop()
    assert calls == [{1: ("a", "b"), 2: (), 3: ()}]


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
def test_rings_of_other_processes_arrive(calls, user):
    """A ring of another process arrives with its users and queue flag in one call."""
    Ring.objects.bulk_create(Ring(user_id=key, origin=-1) for key in (user.pk, None))
    wait_until(lambda: calls.users == {user.pk})
    assert calls[0][2]


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
    """A forked process receives its own rings: it starts its own threads."""
    bell = doorbell
    stop = bell.listen(Calls())
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
            os.write(write, b"y" if calls.users == {1, 2} else b"n")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.waitpid(child, 0)
    stop()


def doorbell_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("notifications-doorbell-")}


def test_another_channel_layer(calls, settings):
    """The threads of the transport before end, and those of the new one begin when they are needed."""
    threads = doorbell_threads()
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.realtime.layers.Dropping"}}
    assert not threads & doorbell_threads()
    doorbell.ring_other_processes([1])
    publisher = doorbell_threads()
    assert [thread.name for thread in publisher] == ["notifications-doorbell-layer-publisher"]
    settings.CHANNEL_LAYERS = {}
    assert not doorbell_threads()
    doorbell.ring([1])
    assert [thread.name for thread in doorbell_threads()] == [thread.name for thread in threads]


class SlowLayer(Dropping):
    """Takes a while to drop a message."""

    has_sent = False

    async def group_send(self, group, message):
        await asyncio.sleep(0.3)
        SlowLayer.has_sent = True


def test_the_rings_of_a_test_are_published_at_its_end(transactional_db, settings):
    """The thread that does it has no database between two tests."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.SlowLayer"}}
    doorbell.ring_other_processes([1])
    TransactionTestCase._fixture_teardown(TransactionTestCase)
    assert SlowLayer.has_sent

"""The one thread that writes for a worker."""

import sqlite3
import threading
import time
from contextlib import closing, suppress

import pytest
from django.db import InterfaceError, OperationalError, connection, connections

from notifications.jobs.writer import Writer
from notifications.models import Ring
from notifications.transactions import ours
from tests.support.waiting import wait_until


@pytest.fixture
async def writer(transactional_db):
    writer = Writer()
    yield writer
    writer.end()
    wait_until(lambda: "notifications-writer-1" not in [thread.name for thread in threading.enumerate()])


async def test_calls_return_and_raise(writer):
    assert await writer(int, "5") == 5
    with pytest.raises(ValueError):
        await writer(int, "x")
    assert await writer(int, "6") == 6


async def test_a_call_that_exits_does_not_end_the_loop(writer):
    def leave():
        raise SystemExit(1)

    with pytest.raises(RuntimeError, match=r"Something that was called here raised SystemExit\(1\)"):
        await writer(leave)
    assert await writer(int) == 0


async def test_its_connection_is_kept(writer, monkeypatch):
    """Also where the host closes connections after each request, which is Django's default."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)

    def identity():
        connection.ensure_connection()
        return id(connection.connection), connection.connection

    first = await writer(identity)
    assert [(await writer(identity))[0] for _ in range(5)] == [first[0]] * 5


async def test_a_connection_that_broke_is_replaced(writer):
    """The server restarted: one call may fail, the next has a new connection."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server that could break off.")

    def break_off():
        connection.ensure_connection()
        connection.connection.close()

    await writer(break_off)
    with suppress(OperationalError, InterfaceError):
        await writer(ours, Ring.objects.count)
    assert await writer(ours, Ring.objects.count) == 0


async def test_others_get_their_turn_on_sqlite(writer):
    """While the writer has always more to write, others write ten times each well before they would give up."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite has one lock for all writers.")
    path, waits, ended = str(connection.settings_dict["NAME"]), [], threading.Event()

    def write_elsewhere():
        with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as other:
            for _ in range(10):
                start = time.monotonic()
                other.execute("INSERT INTO notifications_ring (user_id) VALUES (NULL)")
                waits.append(time.monotonic() - start)
                ended.wait(0.02)
        ended.set()

    def hold():
        def work():
            Ring.objects.create()
            until = time.monotonic() + 0.01
            while time.monotonic() < until:
                pass

        ours(work)

    thread = threading.Thread(target=write_elsewhere)
    thread.start()
    while not ended.is_set():
        await writer(hold)
    thread.join()
    # Without the pauses the median is far above this, and the slowest waits for seconds.
    assert sorted(waits)[5] < 0.25, waits

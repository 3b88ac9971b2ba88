"""The writer: the thread on which a worker claims and records."""

import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from django.db import InterfaceError, OperationalError, connection, connections

from notifications.db import retrying_atomic
from notifications.db.transactions import call_after_write
from notifications.models import Ring
from notifications.worker.writer import BURST_SECONDS, Writer
from tests.support.waiting import wait_until


@pytest.fixture
async def writer(transactional_db):
    writer = Writer()
    yield writer
    writer.end()
    wait_until(lambda: "notifications-writer-1" not in [thread.name for thread in threading.enumerate()])


async def test_calls_return_and_raise(writer):
    assert await writer.run(int, "5") == 5
    with pytest.raises(ValueError):
        await writer.run(int, "x")
    assert await writer.run(int, "6") == 6


async def test_deferred_calls_run_after_the_result(writer):
    """For example, rings of a claim are sent after the claimed jobs have started."""
    gate, done = threading.Event(), []

    def later():
        assert gate.wait(10)
        done.append("later")

    def work():
        call_after_write(later)
        return "answer"

    assert await writer.run(work) == "answer"
    assert done == []
    gate.set()
    assert await writer.run(list, done) == ["later"]
    call_after_write(lambda: done.append("immediately"))
    assert done == ["later", "immediately"]


async def test_a_call_that_exits_does_not_end_the_loop(writer):
    def leave():
        raise SystemExit(1)

    with pytest.raises(RuntimeError, match=r"The call raised SystemExit\(1\)"):
        await writer.run(leave)
    assert await writer.run(int) == 0


async def test_its_connection_is_kept(writer, monkeypatch):
    """This holds with CONN_MAX_AGE = 0 too, Django's default, which closes connections after each request."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)

    def identity():
        connection.ensure_connection()
        return id(connection.connection), connection.connection

    first = await writer.run(identity)
    assert [(await writer.run(identity))[0] for _ in range(5)] == [first[0]] * 5


async def test_it_keeps_no_query_log(writer, settings):
    """Django resets the log only at each request, so that it would grow without limit."""
    settings.DEBUG = True

    def logged():
        Ring.objects.count()
        return len(connection.queries_log)

    assert [await writer.run(logged) for _ in range(3)] == [await writer.run(logged)] * 3


async def test_a_broken_connection_is_replaced(writer):
    """After a restart of the server one call may fail, and the next one has a new connection."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server.")

    def close_raw_connection():
        connection.ensure_connection()
        connection.connection.close()

    await writer.run(close_raw_connection)
    with suppress(OperationalError, InterfaceError):
        await writer.run(retrying_atomic, Ring.objects.count)
    assert await writer.run(retrying_atomic, Ring.objects.count) == 0


async def test_the_pause_after_a_long_transaction_is_bounded(writer, monkeypatch):
    """A slow receiver may hold the lock for seconds. Other writers do not need as much time after it."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite has one lock for all writers.")
    monkeypatch.setattr("notifications.worker.writer.NO_WRITERS_AFTER_SECONDS", 60)
    pauses, sleep = [], time.sleep
    seconds = 0.5

    def hold():
        Ring.objects.create()
        sleep(seconds)

    def pause(seconds):
        if threading.current_thread().name.startswith("notifications-writer"):
            pauses.append(seconds)
        sleep(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", pause)
        await writer.run(retrying_atomic, hold)
        await writer.run(Ring.objects.count)  # after the pause
    assert 0 < max(pauses) <= 0.25


def test_the_pause_outlasts_the_tries_of_a_busy_writer(writer, monkeypatch):
    """SQLite's busy handler tries after 1, 3 and 8 ms: two tries 5 ms apart must not both meet a transaction."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite has one lock for all writers.")
    pauses = []
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(time, "sleep", pauses.append)
    retrying_atomic(Ring.objects.count)  # it holds the lock until now
    writer._locked_since_quiet = BURST_SECONDS
    writer._pause()
    assert pauses == [pytest.approx(0.0065)]
    writer._other_process_wrote_at = 0.0
    writer._pause()
    assert pauses[1] < 0.001  # no other process has written since


async def test_a_keyboard_interrupt_does_not_end_the_loop(writer):
    def leave():
        raise KeyboardInterrupt

    with pytest.raises(RuntimeError, match=r"raised KeyboardInterrupt\(\)"):
        await writer.run(leave)


OTHER_WRITER = """
import sqlite3, sys, time
other = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
print(flush=True)
for _ in range(12):
    other.execute("INSERT INTO notifications_ring (user_id) VALUES (NULL)")
    print(flush=True)
    time.sleep(0.02)
"""


async def test_other_writers_get_the_lock_of_sqlite(writer):
    """While the writer is always busy, another process waits for the unfair lock only briefly."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite has one lock for all writers.")

    transactions = []

    def hold():
        Ring.objects.create()
        time.sleep(0.01)
        transactions.append(1)

    command = [sys.executable, "-c", OTHER_WRITER, str(connection.settings_dict["NAME"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:  # noqa: ASYNC220 (Popen does not wait)
        other.stdout.readline()
        while other.poll() is None:
            await writer.run(retrying_atomic, hold)
        assert len(other.stdout.readlines()) == 12
    # Counted in transactions of the writer, because seconds depend on the machine.
    assert len(transactions) < 150

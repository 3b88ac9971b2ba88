"""The thread that reads changes: one read at a time, each after the delivery of the one before."""

import asyncio
import logging
import threading

import pytest
from django.db import OperationalError

from notifications.db import thread_connections, threads
from notifications.realtime import fanout
from notifications.realtime.connections import WatchedUsers
from notifications.realtime.pool import ThreadPool
from notifications.realtime.reader import ReadResult
from notifications.realtime.subscriber import Subscriber
from tests.realtime.conftest import until
from tests.support.faults.scarcity import fail_thread_starts

USERS = range(8)


class Reads:
    """A Fanout whose reads and deliveries are recorded in `events`; `on_read(users)` is called in a read."""

    def __init__(self, monkeypatch, set_bounds):
        monkeypatch.setattr(fanout, "read_changes", self._read)
        set_bounds(retries=0.01)
        users = WatchedUsers()
        for user in USERS:
            subscriber = Subscriber(self, user, None)
            subscriber.is_synced = True
            users.add(subscriber)
        self.events = []
        self.on_read = lambda users: None
        self.pool = ThreadPool("under-test", 2)
        self.fanout = fanout.Fanout(
            asyncio.get_running_loop(),
            users,
            read_pool=self.pool,
            write_pool=self.pool,
            handle_session_guards=lambda guards: self.events.append("delivered"),
        )

    def _read(self, request):
        self.events.append(set(request.cursors))
        self.on_read(set(request.cursors))
        return ReadResult(epoch=None)

    def threads(self):
        return [thread for thread in threading.enumerate() if "under-test" in thread.name]


@pytest.fixture
async def reads(monkeypatch, set_bounds):
    reads = Reads(monkeypatch, set_bounds)
    yield reads
    for thread in reads.pool.close():
        await asyncio.to_thread(thread.join, 5)
    assert not reads.threads()


async def test_reads_and_deliveries_alternate(reads):
    """Rings of many threads at once: no read begins before the last one is delivered, and the last ring is read."""

    def ring(user):
        for _ in range(100):
            reads.fanout.read_users([user])
        last_rings.append((user, len(reads.events)))

    last_rings = []
    await asyncio.gather(*(asyncio.to_thread(ring, user) for user in USERS))
    await until(lambda: not reads.fanout._is_reading)
    assert all(isinstance(event, set) for event in reads.events[::2])
    assert reads.events[1::2] == ["delivered"] * (len(reads.events) // 2)
    for user, events_before in last_rings:
        # The last ring is in a read after it, or in one that was about to begin.
        assert any(
            user in event for event in reads.events[max(0, events_before - 2) :] if event != "delivered"
        )


async def test_rings_during_a_read_share_the_next(reads):
    """They are read together, after the delivery."""
    is_reading, gate = threading.Event(), threading.Event()
    reads.on_read = lambda users: (is_reading.set(), gate.wait(10))
    reads.fanout.read_users([0])
    await asyncio.to_thread(is_reading.wait, 10)
    for user in (1, 2, 3):
        reads.fanout.read_users([user])
    gate.set()
    await until(lambda: len(reads.events) == 4)
    assert reads.events == [{0}, "delivered", {1, 2, 3}, "delivered"]


async def test_slow_delivery_delays_the_next_read(reads):
    """A ring while the loop is busy is read once the loop has delivered the former read."""
    reads.fanout.read_users([0])
    while not reads.events:  # the loop does not run
        pass
    for _ in range(100):
        reads.fanout.read_users([1])
    assert reads.events == [{0}]
    await until(lambda: len(reads.events) == 4)
    assert reads.events == [{0}, "delivered", {1}, "delivered"]


async def test_failed_reads_are_repeated(reads, monkeypatch, caplog):
    """With whatever error: of the database, of the pool before or after its call, or of a thread that is ended."""

    def fail(users):
        raise errors.pop()

    errors = [SystemExit(), MemoryError(), OperationalError("gone"), ValueError("broken")]
    reads.on_read = lambda users: errors and fail(users)
    reads.fanout.read_users([0])
    await until(lambda: reads.events == [{0}] * 5 + ["delivered"])
    # Both of the middle ones are about the database or a resource: one line a minute.
    assert caplog.text.count("Could not read changes") == 3
    for module, break_call in ((threads, "check_connections"), (thread_connections, "in_transaction")):
        with monkeypatch.context() as patch:
            broken = []
            patch.setattr(module, break_call, lambda *args, **_: broken.append(args) or 1 / 0)  # noqa: B023
            reads.fanout.read_users([1])
            await until(lambda: broken)  # noqa: B023
        await until(lambda: reads.events[-2:] == [{1}, "delivered"])
        reads.events.clear()


async def test_reads_continue_after_the_pool_was_closed(reads):
    """Requests may still be answered while a server stops."""
    reads.fanout.read_users([0])
    await until(lambda: len(reads.events) == 2)
    reads.pool.close()
    reads.fanout.read_users([1])
    await until(lambda: reads.events == [{0}, "delivered", {1}, "delivered"])


async def test_failing_log_and_delivery_stop_nothing(reads, monkeypatch):
    """A filter of the project's logging, or a subscriber that raises, does not end the reads."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    failures = [ValueError("broken"), None]
    monkeypatch.setattr(
        logging.getLogger("notifications.realtime.fanout"), "warning", lambda *args, **kwargs: 1 / 0
    )

    def fail(users):
        if failures and (error := failures.pop(0)):
            raise error

    reads.on_read = fail
    reads.fanout.read_users([0])
    await until(lambda: reads.events == [{0}, {0}, "delivered"])
    monkeypatch.setattr(reads.fanout, "_deliver", lambda *args: 1 / 0)
    reads.fanout.read_users([1])
    reads.fanout.read_users([2])
    await until(lambda: {2} in reads.events or {1, 2} in reads.events)


async def test_read_without_a_thread_is_tried_again(reads, monkeypatch):
    """Where the process can start no thread, what was rung is read once it can."""
    scarcity = fail_thread_starts(monkeypatch)
    reads.fanout.read_users([0])
    await asyncio.sleep(0.1)
    assert not reads.events
    scarcity.end()
    await until(lambda: reads.events == [{0}, "delivered"])

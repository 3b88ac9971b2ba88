"""The threads on which a hub asks the database."""

import asyncio
import threading

import pytest
from django.db import connection, connections

from notifications.db.threads import NoThread
from notifications.realtime.pool import ThreadPool
from tests.faults.support.scarcity import fail_thread_starts
from tests.support.waiting import wait_until


@pytest.fixture
async def pool():
    pool = ThreadPool("under-test", 2)
    yield pool
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)


def names():
    return [thread.name for thread in threading.enumerate() if "under-test" in thread.name]


async def test_concurrency_is_limited_to_the_size(pool):
    """Two threads, started when they are needed, and in each loop's own future what the call returned or raised."""
    assert await pool.run(int, "7") == 7
    assert len(names()) == 1
    gate = threading.Event()
    calls = [pool.run(gate.wait, 30) for _ in range(3)]
    assert len(names()) == 2
    gate.set()
    assert await asyncio.gather(*calls) == [True] * 3
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(int, "seven")


async def test_call_without_thread_fails(pool, monkeypatch):
    """The error is in the future, so that whoever counts on its end hears of it."""
    ran = []
    scarcity = fail_thread_starts(monkeypatch)
    future = pool.run(ran.append, "refused")
    with pytest.raises(NoThread, match="can't start new thread"):
        await future
    scarcity.end()
    await asyncio.gather(*(pool.run(ran.append, "run") for _ in range(3)))
    assert ran == ["run"] * 3


async def test_thread_survives_errors(pool):
    """Also what is no Exception."""

    def leave():
        raise SystemExit

    for _ in range(3):
        with pytest.raises(RuntimeError, match="SystemExit"):
            await pool.run(leave)
    assert await pool.run(int) == 0


async def test_closed_pool_runs_calls(pool):
    """A request may ask at the very end of the server; its threads end with the next close."""
    assert await asyncio.gather(*(pool.run(int) for _ in range(4))) == [0] * 4
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)
    async with asyncio.timeout(30):
        assert await pool.run(int) == 0


async def test_thread_survives_closed_loop(pool):
    """The answer to a call whose loop has gone is dropped."""
    gate = threading.Event()

    def leave():
        async def ask():
            pool.run(gate.wait, 30)

        asyncio.run(ask())

    await asyncio.to_thread(leave)
    gate.set()
    assert await pool.run(int) == 0


@pytest.mark.django_db(transaction=True)
async def test_connections_are_replaced_periodically(monkeypatch):
    """They are kept between calls, but not for ever: a moved server or a replaced file is noticed."""
    pool = ThreadPool("under-test", 1)
    from notifications.db import threads

    def use():
        connection.ensure_connection()
        return connection.connection

    first = await pool.run(use)
    assert await pool.run(use) is first
    monkeypatch.setattr(threads, "MAX_CONNECTION_SECONDS", 0.0)
    assert await pool.run(use) is not first
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)


def test_idle_pool_closes_connections(transactional_db, monkeypatch):
    """A few seconds after its last call."""
    monkeypatch.setattr("notifications.db.threads.IDLE_SECONDS", 0.05)

    async def ask():
        pool = ThreadPool("under-test", 1)
        await pool.run(lambda: connection.ensure_connection())
        wrapper = await pool.run(lambda: connections["default"])
        await asyncio.to_thread(
            wait_until, lambda: wrapper.connection is None, what="the connection to be closed"
        )
        for thread in pool.close():
            await asyncio.to_thread(thread.join, 5)

    asyncio.run(ask())

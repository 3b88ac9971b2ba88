"""The thread pool in which a hub reads the database."""

import asyncio
import threading

import pytest
from django.db import connection, connections

from notifications.realtime.pool import TICK_SECONDS, ThreadPool
from notifications.worker import NoThread
from tests.support.faults.scarcity import fail_thread_starts
from tests.support.waiting import wait_until


def test_a_tick_is_a_second():
    assert TICK_SECONDS == 1


@pytest.fixture
async def pool():
    pool = ThreadPool("under-test", 2)
    yield pool
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)


def thread_names():
    return [thread.name for thread in threading.enumerate() if "under-test" in thread.name]


async def test_concurrency_is_limited_to_the_size(pool):
    """A pool of size 2 starts up to two threads as needed; futures have the result or error of their call."""
    assert await pool.run(int, "7") == 7
    assert len(thread_names()) == 1
    gate = threading.Event()
    calls = [pool.run(gate.wait, 30) for _ in range(3)]
    assert len(thread_names()) == 2
    gate.set()
    assert await asyncio.gather(*calls) == [True] * 3
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(int, "seven")


async def test_call_without_thread_fails(pool, monkeypatch):
    """If no thread can be started, the future fails, so that a caller that waits for its end continues."""
    ran = []
    scarcity = fail_thread_starts(monkeypatch)
    future = pool.run(ran.append, "refused")
    with pytest.raises(NoThread, match="can't start new thread"):
        await future
    scarcity.end()
    await asyncio.gather(*(pool.run(ran.append, "run") for _ in range(3)))
    assert ran == ["run"] * 3


async def test_thread_survives_errors(pool):
    """A thread survives any error of a call, including a BaseException."""

    def exit_thread():
        raise SystemExit

    for _ in range(3):
        with pytest.raises(RuntimeError, match="SystemExit"):
            await pool.run(exit_thread)
    assert await pool.run(int) == 0


async def test_closed_pool_runs_calls(pool):
    """A closed pool still runs calls, as of requests during shutdown; the next close ends the new threads."""
    assert await asyncio.gather(*(pool.run(int) for _ in range(4))) == [0] * 4
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)
    async with asyncio.timeout(30):
        assert await pool.run(int) == 0


async def test_thread_survives_closed_loop(pool):
    """The result of a call whose event loop has closed is dropped, and the thread continues."""
    gate = threading.Event()

    def start_call_and_close_loop():
        async def start_call():
            pool.run(gate.wait, 30)

        asyncio.run(start_call())

    await asyncio.to_thread(start_call_and_close_loop)
    gate.set()
    assert await pool.run(int) == 0


@pytest.mark.django_db(transaction=True)
async def test_connections_are_replaced_periodically(set_bounds):
    """Connections are kept between calls but replaced periodically, so that a replaced database is noticed."""
    pool = ThreadPool("under-test", 1)

    def use():
        connection.ensure_connection()
        return connection.connection

    first = await pool.run(use)
    assert await pool.run(use) is first
    set_bounds(known=0.0)
    assert await pool.run(use) is not first
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)


def test_idle_pool_closes_connections(transactional_db, set_bounds):
    """An idle thread closes its connection IDLE_SECONDS after its last call."""
    set_bounds(idle=0.05)

    async def run_and_wait():
        pool = ThreadPool("under-test", 1)
        await pool.run(lambda: connection.ensure_connection())
        wrapper = await pool.run(lambda: connections["default"])
        await asyncio.to_thread(
            wait_until, lambda: wrapper.connection is None, what="the connection to be closed"
        )
        for thread in pool.close():
            await asyncio.to_thread(thread.join, 5)

    asyncio.run(run_and_wait())

"""Concurrent handshakes are authenticated in batches."""

import asyncio
import threading

import pytest

from notifications.realtime.auth import handshakes
from notifications.realtime.auth.handshakes import SessionLookup
from notifications.realtime.pool import ThreadPool


@pytest.fixture
def queries(monkeypatch):
    """The session keys of each query. The key "s7" belongs to user 7; "broken" raises an error."""
    queries = []

    def read_users(session_keys):
        queries.append(set(session_keys))
        if "broken" in session_keys:
            raise ConnectionError("the backend of this user is down")
        return {key: int(key[1:]) for key in session_keys if key[1:].isdigit()}

    monkeypatch.setattr(handshakes, "read_users", read_users)
    return queries


@pytest.fixture
async def lookup(queries):
    pool = ThreadPool("test-handshakes", 2)
    yield SessionLookup(pool)
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 5)


async def test_handshakes_under_load_are_batched(lookup, queries):
    """Concurrent handshakes get their own user each, with one query per 100 sessions."""
    keys = [*(f"s{number}" for number in range(250)), None, "unknown", "s7"]
    assert await asyncio.gather(*map(lookup.resolve, keys)) == [*range(250), None, None, 7]
    assert [len(query) for query in queries] == [1, 100, 100, 51]


async def test_failed_lookup_does_not_affect_others(lookup):
    """A lookup that fails raises the error in its own handshake only."""
    keys = ["s1", "s2", "broken", "s3", "s4"]
    results = await asyncio.gather(*map(lookup.resolve, keys), return_exceptions=True)
    assert isinstance(results.pop(2), ConnectionError)
    assert results == [1, 2, 3, 4]


async def test_cancelled_handshake_does_not_affect_others(lookup):
    """A handshake that is cancelled during its query does not affect the others of the batch."""
    tasks = [asyncio.ensure_future(lookup.resolve(f"s{number}")) for number in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    assert [await tasks[1], await tasks[3]] == [1, 3]


async def test_hanging_lookup_does_not_block_others(lookup, monkeypatch):
    """While one lookup hangs, others run on the pool's second thread."""
    read_users, resumed = handshakes.read_users, threading.Event()

    def hang(session_keys):
        if session_keys == {"s1"}:
            resumed.wait(30)
        return read_users(session_keys)

    monkeypatch.setattr(handshakes, "read_users", hang)
    hanging = asyncio.ensure_future(lookup.resolve("s1"))
    async with asyncio.timeout(10):
        assert await asyncio.gather(lookup.resolve("s2"), lookup.resolve("s3")) == [2, 3]
    resumed.set()
    assert await hanging == 1

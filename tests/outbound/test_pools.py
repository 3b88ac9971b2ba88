"""Connections belong to an event loop and are closed with it."""

import asyncio
import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from notifications import outbound
from notifications.outbound import pools

from .upstream import CannedServer, http_response


@pytest.fixture
def names(resolve_names):
    """A name whose address a thread of the resolver finds, and the guard refuses."""
    resolve_names({"inside.test": ["127.0.0.1"]})


def count_open_sockets():
    """Return the number of open sockets of this process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


def falls_to(count, *, maximum):
    """Wait until a count falls to a maximum, after the server has closed its side too; return whether it does."""
    give_up_at = time.monotonic() + 30
    while count() > maximum and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return count() <= maximum


def run_and_close(call, *, loop_factory=asyncio.new_event_loop):
    """Run a coroutine in an event loop without asyncio.run()."""
    loop = loop_factory()
    try:
        return loop.run_until_complete(call), weakref.ref(loop)
    finally:
        loop.close()


@pytest.mark.long
def test_300_event_loops(upstream, names):
    """300 event loops with kept connections of both kinds leave no loop, socket or warning behind."""
    before, loops = count_open_sockets(), []

    async def call():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await outbound.get(upstream.url("/ok"))
        with pytest.raises(outbound.Refused):
            await outbound.get("http://inside.test/")

    for _ in range(300):
        asyncio.run(call())
    gc.collect()
    assert falls_to(count_open_sockets, maximum=before)
    assert not [loop for loop in loops if loop() is not None]


@pytest.mark.nightly
def test_2_000_event_loops():
    """2,000 event loops with one call each leave no memory, loop or socket behind."""
    with (
        CannedServer(http_response(b"ok")) as server,
        override_settings(NOTIFICATIONS={"OUTBOUND_ALLOW": [server.address]}),
    ):
        before, loops = count_open_sockets(), weakref.WeakSet()

        async def call():
            loops.add(asyncio.get_running_loop())
            await outbound.get(server.url)

        def run_loops(times):
            for _ in range(times):
                asyncio.run(call())
            gc.collect()

        run_loops(500)
        tracemalloc.start()
        run_loops(500)
        growth = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        run_loops(1_000)
        assert growth < 500_000
        assert not [loop for loop in loops if not loop.is_closed()]
        assert len(loops) < 10
        assert falls_to(count_open_sockets, maximum=before)


def test_loops_without_asyncio_run(upstream):
    """A loop that is only closed closes its connections too."""
    before = count_open_sockets()
    loops = [run_and_close(outbound.get(upstream.url("/ok")))[1] for _ in range(20)]
    gc.collect()
    assert falls_to(count_open_sockets, maximum=before)
    assert not [loop for loop in loops if loop() is not None]


def test_async_to_sync(upstream):
    """async_to_sync(), which makes a loop for each call, leaves no socket behind."""
    before = count_open_sockets()
    for _ in range(20):
        async_to_sync(outbound.get)(upstream.url("/ok"))
    gc.collect()
    assert falls_to(count_open_sockets, maximum=before)


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="needs uvloop")
def test_uvloop(upstream, names):
    """uvloop's loops close their connections too, and the guard works there."""
    import uvloop

    before = count_open_sockets()
    for _ in range(20):
        response, _ = run_and_close(outbound.get(upstream.url("/ok")), loop_factory=uvloop.new_event_loop)
        assert response.status == 200
        with pytest.raises(outbound.Refused):
            run_and_close(outbound.get("http://inside.test/"), loop_factory=uvloop.new_event_loop)
    gc.collect()
    assert falls_to(count_open_sockets, maximum=before + 2)


async def test_one_pool_per_loop(upstream):
    """All calls of a loop share its connections; another loop has its own."""
    first = pools.get_pool()
    await outbound.get(upstream.url("/ok"))
    assert pools.get_pool() is first

    async def other():
        return pools.get_pool() is first

    assert await asyncio.to_thread(asyncio.run, other()) is False


async def test_closed_inside_another_loop(upstream):
    """A loop that is closed while another one runs in the thread closes its connections too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(outbound.get(upstream.url("/ok")),))
    thread.start()
    await asyncio.to_thread(thread.join)
    loop.close()
    assert loop.is_closed()
    assert (await outbound.get(upstream.url("/ok"))).status == 200


async def test_closing_a_running_loop(upstream):
    """close() of a running loop raises asyncio's own error and closes no connection."""
    await outbound.get(upstream.url("/ok"))
    with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
        asyncio.get_running_loop().close()
    assert (await outbound.get(upstream.url("/ok"))).status == 200


def test_loops_in_threads(upstream):
    """Several threads, each with its own loop, make calls at the same time."""
    answers = []

    async def many():
        answers.extend(await asyncio.gather(*[outbound.get(upstream.url("/ok")) for _ in range(25)]))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 200


PROGRAM = """
import asyncio, sys
import django
from django.conf import settings
settings.configure(NOTIFICATIONS={"OUTBOUND_ALLOW": [sys.argv[1]]})
from notifications import outbound
async def call():
    asyncio.get_running_loop().slow_callback_duration = 60  # The machine may be slow.
    await outbound.get(f"http://{sys.argv[1]}/ok")
asyncio.run(call())
loop = asyncio.new_event_loop()
loop.run_until_complete(call())
loop.close()
print("done")
"""


def test_no_warnings_at_exit(upstream):
    """A program with all warnings and asyncio's debug mode prints no warning at exit."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, upstream.address],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_hanging_lookup_does_not_delay_exit(resolve_names):
    """asyncio.run() ends at once although a lookup hangs, without a warning."""
    gate = threading.Event()
    resolve_names({"slow.test": lambda: gate.wait(20) and ["8.8.8.8"]})

    async def call():
        with pytest.raises(outbound.TimedOut):
            await outbound.get("http://slow.test/", deadline=0.1)

    started = time.monotonic()
    asyncio.run(call())
    assert time.monotonic() - started < 15
    gate.set()


def test_after_a_fork(upstream, names):
    """A child process resolves names and makes calls on its own."""
    asyncio.run(outbound.get(upstream.url("/ok")))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(outbound.get(upstream.url("/ok")))
            with pytest.raises(outbound.Refused):
                asyncio.run(outbound.get("http://inside.test/"))
            os.write(writer, b"done")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 4) == b"done"
    os.close(reader)


async def test_closed_kept_connection(allow):
    """An idempotent request on a kept connection that the server has closed costs no attempt."""
    with CannedServer(http_response(b"ok"), keep_alive=True) as server:
        allow(server.address)
        assert (await outbound.get(server.url)).attempts == 1
        server.closes_kept = True
        assert (await outbound.get(server.url)).attempts == 1


async def test_closed_new_connection(allow):
    """A request on a new connection that the server closes is sent once."""
    with CannedServer() as server:
        allow(server.address)
        with pytest.raises(outbound.Unreachable, match="closed the connection without a response"):
            await outbound.get(server.url, retries=0)
        assert server.request_count == 1

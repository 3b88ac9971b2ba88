"""Connections belong to an event loop and are closed with it."""

import asyncio
import contextlib
import gc
import importlib.util
import os
import socket
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

from .upstream import Says, answer


def open_sockets():
    """Sockets of this process that are connected."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def settled(count, *, at_most):
    """Whether a count comes down to a bound, once the server's side has seen the closing too."""
    until = time.monotonic() + 30
    while count() > at_most and time.monotonic() < until:
        time.sleep(0.01)
    return count() <= at_most


def run_and_close(call, *, loop_factory=asyncio.new_event_loop):
    """An event loop without asyncio.run around it: run, close, done."""
    loop = loop_factory()
    try:
        return loop.run_until_complete(call), weakref.ref(loop)
    finally:
        loop.close()


def test_300_event_loops(upstream):
    """300 event loops, each with kept connections of both kinds, leave no loop, no socket and no warning behind."""
    before, loops = open_sockets(), []

    async def call():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await outbound.get(upstream.url("/ok"))
        with pytest.raises(outbound.Refused):
            await outbound.get("http://localhost/")

    for _ in range(300):
        asyncio.run(call())
    gc.collect()
    assert settled(open_sockets, at_most=before)
    assert not [loop for loop in loops if loop() is not None]


def test_10_000_event_loops():
    """10,000 event loops made and closed, each with a call, leave no memory, no loop and no socket behind."""
    with Says(answer(b"ok")) as says, override_settings(NOTIFICATIONS={"OUTBOUND_ALLOW": [says.address]}):
        before, loops = open_sockets(), weakref.WeakSet()

        async def call():
            loops.add(asyncio.get_running_loop())
            await outbound.get(says.url)

        def run(times):
            for _ in range(times):
                asyncio.run(call())
            gc.collect()

        run(500)
        tracemalloc.start()
        run(500)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        run(9_000)
        assert held < 500_000
        assert not [loop for loop in loops if not loop.is_closed()]
        assert len(loops) < 10
        assert settled(open_sockets, at_most=before)


def test_bare_loops(upstream):
    """A loop that is only closed, without asyncio.run, closes its connections too."""
    before = open_sockets()
    loops = [run_and_close(outbound.get(upstream.url("/ok")))[1] for _ in range(20)]
    gc.collect()
    assert settled(open_sockets, at_most=before)
    assert not [loop for loop in loops if loop() is not None]


def test_async_to_sync(upstream):
    """async_to_sync, which makes a loop for each call, leaves nothing behind either."""
    before = open_sockets()
    for _ in range(20):
        async_to_sync(outbound.get)(upstream.url("/ok"))
    gc.collect()
    assert settled(open_sockets, at_most=before)


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="needs uvloop")
def test_uvloop(upstream):
    """uvloop's loops close their connections too, and the guard holds there."""
    import uvloop

    before = open_sockets()
    for _ in range(20):
        response, _ = run_and_close(outbound.get(upstream.url("/ok")), loop_factory=uvloop.new_event_loop)
        assert response.status == 200
        with pytest.raises(outbound.Refused):
            run_and_close(outbound.get("http://localhost/"), loop_factory=uvloop.new_event_loop)
    gc.collect()
    assert settled(open_sockets, at_most=before + 2)


async def test_one_pool_for_one_loop(upstream):
    """All calls of a loop share its connections; another loop has others."""
    first = pools.pool()
    await outbound.get(upstream.url("/ok"))
    assert pools.pool() is first

    async def other():
        return pools.pool() is first

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


async def test_a_running_loop_is_not_closed(upstream):
    """close() of a running loop is asyncio's own error, and changes nothing."""
    await outbound.get(upstream.url("/ok"))
    with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
        asyncio.get_running_loop().close()
    assert (await outbound.get(upstream.url("/ok"))).status == 200


def test_loops_in_threads(upstream):
    """Several threads, each with its own loop, call at once."""
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
    asyncio.get_running_loop().slow_callback_duration = 60  # a slow machine is no news here
    await outbound.get(f"http://{sys.argv[1]}/ok")
asyncio.run(call())
loop = asyncio.new_event_loop()
loop.run_until_complete(call())
loop.close()
print("done")
"""


def test_no_word_at_exit(upstream):
    """A program with all warnings on, and asyncio's debugging, ends without a word."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, upstream.place],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_a_hanging_lookup_does_not_hold_the_exit(stands_for):
    """asyncio.run ends at once although a name server still does not answer, and without a warning."""
    gate = threading.Event()
    stands_for({"slow.test": lambda: gate.wait(20) and ["8.8.8.8"]})

    async def call():
        with pytest.raises(outbound.TimedOut):
            await outbound.get("http://slow.test/", deadline=0.1)

    started = time.monotonic()
    asyncio.run(call())
    assert time.monotonic() - started < 15
    gate.set()


def test_after_a_fork(upstream):
    """A child process looks up names and calls on its own."""
    asyncio.run(outbound.get(upstream.url("/ok")))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(outbound.get(upstream.url("/ok")))
            with pytest.raises(outbound.Refused):
                asyncio.run(outbound.get("http://localhost/"))
            os.write(writer, b"done")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 4) == b"done"
    os.close(reader)


def test_sockets_are_made_for_what_is_asked():
    """The socket has the family and kind of the attempt."""
    made = pools.checked_socket(
        (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("2606:4700::1", 80, 0, 0))
    )
    with made:
        assert (made.family, made.type) == (socket.AF_INET6, socket.SOCK_STREAM)

"""Slots: concurrency limits per host and in total."""

import asyncio
import contextlib
import gc
import threading

import pytest

from notifications import outbound
from notifications.outbound.slots import Slots, slots

from .upstream import Upstream


async def run_ready_callbacks():
    """Let all ready callbacks of the event loop run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_per_host(upstream, allow):
    """At most OUTBOUND_PER_HOST calls to one host are active."""
    allow(upstream.address, OUTBOUND_PER_HOST=3)
    responses = await asyncio.gather(*[outbound.get(upstream.url("/slow/0.05")) for _ in range(20)])
    assert [response.status for response in responses] == [200] * 20
    assert upstream.max_active == 3


def test_per_host_over_all_loops(upstream, allow):
    """The limit is for the process, not for each event loop."""
    allow(upstream.address, OUTBOUND_PER_HOST=3)

    async def many():
        await asyncio.gather(*[outbound.get(upstream.url("/slow/0.05")) for _ in range(5)])

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(upstream.requests) == 20
    assert upstream.max_active == 3


async def test_total():
    """Hosts share a total, and take turns."""
    slots = Slots(2)
    await slots.acquire("a", 5)
    await slots.acquire("a", 5)
    order = []

    async def call(host):
        await slots.acquire(host, 5)
        order.append(host)

    tasks = [asyncio.create_task(call(host)) for host in ["b", "b", "b", "c", "d"]]
    await run_ready_callbacks()
    assert order == []
    for host in ("a", "a", "b", "c", "d"):
        slots.release(host)
        await run_ready_callbacks()
    assert order == ["b", "c", "d", "b", "b"]
    await asyncio.gather(*tasks)


async def test_first_in_first_out():
    """Calls to one host get their slots in order."""
    slots, order = Slots(9), []
    await slots.acquire("a", 1)

    async def call(number):
        await slots.acquire("a", 1)
        order.append(number)
        slots.release("a")

    tasks = [asyncio.create_task(call(number)) for number in range(5)]
    await run_ready_callbacks()
    slots.release("a")
    late = asyncio.create_task(call(5))
    await asyncio.gather(*tasks, late)
    assert order == [0, 1, 2, 3, 4, 5]


async def test_full_host_does_not_block_others():
    """Calls that wait for one host do not delay calls to another."""
    slots = Slots(3)
    await slots.acquire("a", 1)
    waiting = asyncio.create_task(slots.acquire("a", 1))
    await run_ready_callbacks()
    async with asyncio.timeout(30):
        await slots.acquire("b", 1)
    slots.release("a")
    await waiting


@pytest.mark.parametrize("has_slot", [False, True])
async def test_canceled_waiting(has_slot):
    """A call that is cancelled while it waits, or just after it got its slot, leaves no slot taken."""
    slots = Slots(1)
    await slots.acquire("a", 1)
    waiting = asyncio.create_task(slots.acquire("a", 1))
    await run_ready_callbacks()
    if has_slot:
        slots.release("a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not has_slot:
        slots.release("a")
    async with asyncio.timeout(30):
        await slots.acquire("b", 1)
    assert (slots._busy, dict(slots._busy_by_origin), dict(slots._queues)) == (1, {"b": 1}, {})


async def test_slot_of_a_canceled_call():
    """A slot that a cancelled call was given goes to the next."""
    slots = Slots(1)
    await slots.acquire("a", 1)
    first, second = (asyncio.create_task(slots.acquire("a", 1)) for _ in range(2))
    await run_ready_callbacks()
    slots.release("a")
    first.cancel()
    async with asyncio.timeout(30):
        await second


def test_closed_loop():
    """Slots for which a closed loop still waits go to others."""
    slots = Slots(1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(slots.acquire("a", 1))
    waiting = slots.acquire("a", 1)
    task = loop.create_task(waiting)
    loop.run_until_complete(run_ready_callbacks())
    task._log_destroy_pending = False  # The loop is abandoned on purpose.
    loop.close()
    slots.release("a")
    del loop, task, waiting
    gc.collect()  # The waiting call ends now, and must not release a slot it never had.
    assert (slots._busy, slots._busy_by_origin) == (0, {})

    async def take():
        async with asyncio.timeout(30):
            await slots.acquire("b", 1)

    asyncio.run(take())


async def test_callers_of_one_host_take_turns():
    """A caller with many calls delays the calls of another by one call each."""
    slots, order = Slots(9), []
    await slots.acquire("a", 1)

    async def call(caller, number):
        await slots.acquire("a", 1, caller)
        order.append((caller, number))
        slots.release("a")

    many = [asyncio.create_task(call("many", number)) for number in range(5)]
    few = [asyncio.create_task(call("few", number)) for number in range(2)]
    await run_ready_callbacks()
    slots.release("a")
    await asyncio.gather(*many, *few)
    assert order == [("many", 0), ("few", 0), ("many", 1), ("few", 1), ("many", 2), ("many", 3), ("many", 4)]


async def test_last_comes_first_while_the_first_is_late():
    """While the first waiter is late, the last is served first, because it has the most time left."""
    slots, order = Slots(9), []
    await slots.acquire("a", 1)

    async def call(name, late_after):
        await slots.acquire("a", 1, None, late_after)
        order.append(name)
        slots.release("a")

    names = {"gone": 0, "late": 0, "later": 0, "third": 60, "fourth": 60}
    tasks = [asyncio.create_task(call(*each)) for each in names.items()]
    await run_ready_callbacks()
    tasks.pop(0).cancel()
    await run_ready_callbacks()
    slots.release("a")
    await asyncio.gather(*tasks)
    assert order == ["fourth", "third", "later", "late"]
    assert (slots._busy, dict(slots._queues)) == (0, {})


async def test_calls_of_a_process(upstream, allow, monkeypatch):
    """At most MAX_CALLS are active in the process."""
    monkeypatch.setattr(slots, "total", 2)
    allow(upstream.address)
    await asyncio.gather(*[outbound.get(upstream.url("/slow/0.02")) for _ in range(10)])
    assert upstream.max_active == 2


async def test_slots_per_origin(upstream, allow):
    """Two servers on one host do not share slots."""
    other = Upstream()
    allow(upstream.address, other.address, OUTBOUND_PER_HOST=1)
    slow = asyncio.create_task(outbound.get(upstream.url("/slow/30")))
    await upstream.wait_until_busy()
    assert (await outbound.get(other.url("/ok"), deadline=5)).status == 200
    slow.cancel()
    await asyncio.wait([slow])
    other.close()


async def test_slots_are_released(upstream, allow):
    """Responses, errors, timeouts and refusals all release their slot."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    for path, options in [
        ("/ok", {}),
        ("/slow/5", {"deadline": 0.05}),
        ("/sized/100", {"max_bytes": 1}),
        ("/redirect?to=http://10.0.0.1/", {}),
        ("/compressed/1?encoding=br", {}),
    ] * 3:
        with contextlib.suppress(outbound.OutboundError):
            await outbound.get(upstream.url(path), **options)
    assert (await outbound.get(upstream.url("/ok"), deadline=2)).status == 200

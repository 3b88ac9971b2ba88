"""Places for calls: per host and altogether, in turn."""

import asyncio
import contextlib
import gc
import threading
from uuid import uuid4

import pytest

from notifications import outbound
from notifications.jobs.enqueueing import owners
from notifications.outbound.slots import Slots

from .upstream import Upstream


async def turns():
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_per_host(upstream, allow):
    """At most OUTBOUND_PER_HOST calls to one host are under way."""
    allow(upstream.place, OUTBOUND_PER_HOST=3)
    answers = await asyncio.gather(*[outbound.get(upstream.url("/slow/0.05")) for _ in range(20)])
    assert [answer.status for answer in answers] == [200] * 20
    assert upstream.most == 3


def test_per_host_over_all_loops(upstream, allow):
    """The limit holds for the process, not for each event loop."""
    allow(upstream.place, OUTBOUND_PER_HOST=3)

    async def many():
        await asyncio.gather(*[outbound.get(upstream.url("/slow/0.05")) for _ in range(5)])

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(upstream.seen) == 20
    assert upstream.most == 3


async def test_total():
    """Hosts share a total, and take turns."""
    slots = Slots()
    await slots.take("a", 5, 2)
    await slots.take("a", 5, 2)
    order = []

    async def call(host):
        await slots.take(host, 5, 2)
        order.append(host)

    tasks = [asyncio.create_task(call(host)) for host in ["b", "b", "b", "c", "d"]]
    await turns()
    assert order == []
    for held in ("a", "a", "b", "c", "d"):
        slots.give_back(held)
        await turns()
    assert order == ["b", "c", "d", "b", "b"]
    await asyncio.gather(*tasks)


async def test_first_come_first_served():
    """Calls to one host get their places in order, and nobody overtakes."""
    slots, order = Slots(), []
    await slots.take("a", 1, 9)

    async def call(number):
        await slots.take("a", 1, 9)
        order.append(number)
        slots.give_back("a")

    tasks = [asyncio.create_task(call(number)) for number in range(5)]
    await turns()
    slots.give_back("a")
    late = asyncio.create_task(call(5))
    await asyncio.gather(*tasks, late)
    assert order == [0, 1, 2, 3, 4, 5]


async def test_a_full_host_stops_nobody_else():
    """Who waits for a full host does not keep others waiting."""
    slots = Slots()
    await slots.take("a", 1, 3)
    waiting = asyncio.create_task(slots.take("a", 1, 3))
    await turns()
    async with asyncio.timeout(30):
        await slots.take("b", 1, 3)
    slots.give_back("a")
    await waiting


@pytest.mark.parametrize("granted", [False, True])
async def test_cancelled_waiting(granted):
    """Whoever is cancelled while waiting, or just as the place came, leaves no place taken."""
    slots = Slots()
    await slots.take("a", 1, 1)
    waiting = asyncio.create_task(slots.take("a", 1, 1))
    await turns()
    if granted:
        slots.give_back("a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not granted:
        slots.give_back("a")
    async with asyncio.timeout(30):
        await slots.take("b", 1, 1)
    assert (slots._busy, dict(slots._busy_at), dict(slots._waiting)) == (1, {"b": 1}, {})


async def test_the_waiting_one_behind_a_cancelled_one():
    """A place that a cancelled call does not take goes to the next."""
    slots = Slots()
    await slots.take("a", 1, 1)
    first, second = (asyncio.create_task(slots.take("a", 1, 1)) for _ in range(2))
    await turns()
    slots.give_back("a")
    first.cancel()
    async with asyncio.timeout(30):
        await second


def test_a_loop_that_is_gone():
    """Places for which a closed loop still waits go to others."""
    slots = Slots()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(slots.take("a", 1, 1))
    waiting = slots.take("a", 1, 1)
    task = loop.create_task(waiting)
    loop.run_until_complete(turns())
    task._log_destroy_pending = False  # the loop is abandoned on purpose
    loop.close()
    slots.give_back("a")
    del loop, task, waiting
    gc.collect()  # what still waited ends now, and must not give back what it never had
    assert (slots._busy, slots._busy_at) == (0, {})

    async def take():
        async with asyncio.timeout(30):
            await slots.take("b", 1, 1)

    asyncio.run(take())


async def test_callers_of_one_host_take_turns():
    """Whoever has many calls for a host keeps those of others waiting for one of them at a time."""
    slots, order = Slots(), []
    await slots.take("a", 1, 9)

    async def call(caller, number):
        await slots.take("a", 1, 9, caller)
        order.append((caller, number))
        slots.give_back("a")

    many = [asyncio.create_task(call("many", number)) for number in range(5)]
    few = [asyncio.create_task(call("few", number)) for number in range(2)]
    await turns()
    slots.give_back("a")
    await asyncio.gather(*many, *few)
    assert order == [("many", 0), ("few", 0), ("many", 1), ("few", 1), ("many", 2), ("many", 3), ("many", 4)]


async def test_the_late_ones_come_last():
    """Who has waited for long goes after those who have not, and whoever has waited least of these first."""
    slots, order = Slots(), []
    await slots.take("a", 1, 9)

    async def call(name, patience):
        await slots.take("a", 1, 9, None, patience)
        order.append(name)
        slots.give_back("a")

    names = {"late": 0, "later": 0, "first": 60, "second": 60, "gone": 0}
    tasks = [asyncio.create_task(call(*each)) for each in names.items()]
    await turns()
    tasks.pop().cancel()
    await turns()
    slots.give_back("a")
    await asyncio.gather(*tasks)
    assert order == ["first", "second", "later", "late"]
    assert (slots._busy, dict(slots._waiting)) == (0, {})


async def test_a_job_does_not_keep_others_waiting(upstream, allow):
    """A job with many calls for a server, and a call that is no job's, take turns."""
    allow(upstream.place, OUTBOUND_PER_HOST=1)

    async def job():
        owners.set_running_job(None, uuid4())
        await asyncio.gather(*[outbound.get(upstream.url("/slow/0.01")) for _ in range(20)])

    working = asyncio.create_task(job())
    await upstream.busy()
    before = len(upstream.seen)
    await outbound.get(upstream.url("/ok"))
    assert len(upstream.seen) <= before + 3
    await working


async def test_total_of_the_settings(upstream, allow):
    """At most OUTBOUND_TOTAL calls are under way in the process."""
    allow(upstream.place, OUTBOUND_TOTAL=2)
    await asyncio.gather(*[outbound.get(upstream.url("/slow/0.02")) for _ in range(10)])
    assert upstream.most == 2


async def test_schemes_and_ports_are_counted_apart(upstream, allow):
    """Two servers on one host do not wait for one another."""
    other = Upstream()
    allow(upstream.place, other.place, OUTBOUND_PER_HOST=1)
    slow = asyncio.create_task(outbound.get(upstream.url("/slow/30")))
    await upstream.busy()
    assert (await outbound.get(other.url("/ok"), deadline=5)).status == 200
    slow.cancel()
    await asyncio.wait([slow])
    other.close()


async def test_places_come_back(upstream, allow):
    """Answers, errors, timeouts and refusals all give their place back."""
    allow(upstream.place, OUTBOUND_PER_HOST=1)
    for path, options in [
        ("/ok", {}),
        ("/slow/5", {"deadline": 0.05}),
        ("/sized/100", {"max_bytes": 1}),
        ("/redirect?to=http://10.0.0.1/", {}),
        ("/packed/1?encoding=br", {}),
    ] * 3:
        with contextlib.suppress(outbound.OutboundError):
            await outbound.get(upstream.url(path), **options)
    assert (await outbound.get(upstream.url("/ok"), deadline=2)).status == 200

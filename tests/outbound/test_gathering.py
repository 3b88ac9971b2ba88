"""gather(): many calls, of which each is yielded when it has ended."""

import asyncio
import gc
from contextlib import aclosing

import pytest

from notifications import outbound
from notifications.outbound.slots import slots

from .upstream import Upstream


async def test_each_is_yielded_as_it_ends(upstream):
    """With its response or its error, slow ones last."""
    slow, fast, missing = (upstream.url(path) for path in ("/slow/0.5", "/ok", "/status/404"))
    refused = "http://10.0.0.1/"
    outcomes = [each async for each in outbound.gather([slow, fast, missing, refused], retries=0)]
    assert {request: getattr(outcome, "status", type(outcome)) for request, outcome in outcomes} == {
        slow: 200,
        fast: 200,
        missing: 404,
        refused: outbound.Refused,
    }
    assert outcomes[-1][0] == slow


async def test_mappings_are_arguments(upstream):
    """A mapping is yielded as it is, and its arguments come before those of all."""
    requests = [{"method": "POST", "url": upstream.url("/echo"), "data": f"{n}"} for n in range(3)]
    outcomes = [each async for each in outbound.gather(requests, retries=0, deadline=5.0)]
    assert sorted(id(request) for request, _ in outcomes) == sorted(map(id, requests))
    assert {received.body for received in upstream.requests} == {b"0", b"1", b"2"}


async def test_limit(upstream, allow):
    """So many run at once, and no more begin while the caller does not go on."""
    urls = [upstream.url("/slow/0.02")] * 12
    async for _ in outbound.gather(urls, limit=3):
        await asyncio.sleep(0.01)
    assert (len(upstream.requests), upstream.max_active) == (12, 3)


async def until_all_have_ended():
    async with asyncio.timeout(5):
        while slots.state()[0] or len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.01)


async def test_a_slow_host_does_not_hold_up_others(upstream, allow):
    """It runs OUTBOUND_PER_HOST calls of the limit, although its own come first."""
    other = Upstream()
    allow(upstream.address, other.address, OUTBOUND_PER_HOST=2)
    try:
        urls = [upstream.url("/slow/30")] * 6 + [other.url("/ok")] * 6
        outcomes = outbound.gather(urls, limit=4)
        hosts = [(await anext(outcomes))[0].split("/")[2] for _ in range(6)]
        await outcomes.aclose()
        await until_all_have_ended()
    finally:
        other.close()
    assert hosts == [other.address] * 6


async def test_a_wait_for_a_place_is_not_part_of_the_deadline(upstream, allow):
    """Neither in this loop, nor where other calls of the process have all slots of the host."""
    allow(upstream.address, OUTBOUND_PER_HOST=2)
    held = [asyncio.create_task(outbound.get(upstream.url("/slow/2"))) for _ in range(2)]
    await upstream.wait_until_busy()
    urls = [upstream.url("/slow/0.2")] * 8
    outcomes = [outcome async for _, outcome in outbound.gather(urls, deadline=1.8)]
    assert [outcome.status for outcome in outcomes if isinstance(outcome, outbound.Response)] == [200] * 8
    await asyncio.gather(*held)


@pytest.mark.parametrize("how", ["break", "close", "error"])
async def test_leaving_the_loop_cancels_the_calls(upstream, how):
    """Also by an error whose traceback keeps the generator."""
    urls = [upstream.url("/ok")] + [upstream.url("/slow/30")] * 5

    async def leave():
        if how == "close":
            async with aclosing(outbound.gather(urls)) as outcomes:
                async for _ in outcomes:
                    return
        async for _ in outbound.gather(urls):
            if how == "break":
                break
            raise RuntimeError

    kept = (await asyncio.gather(asyncio.create_task(leave()), return_exceptions=True))[0]
    gc.collect()
    await until_all_have_ended()
    assert isinstance(kept, RuntimeError) is (how == "error")


@pytest.mark.parametrize(
    ("requests", "options", "error"),
    [
        ([5], {}, "A request is 5. It must be a URL, or a mapping of arguments"),
        (["http://a/"], {"limit": 0}, "limit is 0. It must be an integer of 1 or more."),
        (["http://a/"], {"deadline": -1}, "deadline"),
        ([{"method": "GET"}], {}, "url"),
    ],
)
async def test_invalid_arguments(requests, options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        async for _ in outbound.gather(requests, **options):
            pass
    assert len(asyncio.all_tasks()) == 1

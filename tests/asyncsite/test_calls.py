"""Calls of one URL and their results."""

import asyncio
import tracemalloc

from asyncsite.calls import MAX_BODY_BYTES, call_url

AT_ONCE = 20


async def test_bodies_are_counted_and_not_kept(upstream, settings):
    """Twenty bodies of 4 MB at a time take less memory than four of them."""
    settings.NOTIFICATIONS |= {"OUTBOUND_PER_HOST": AT_ONCE}
    tracemalloc.start()
    try:
        answers = await asyncio.gather(*[call_url(upstream.url("/big/4")) for _ in range(AT_ONCE)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {(answer.outcome, answer.bytes) for answer in answers} == {("ok", 4_000_000)}
    assert peak < 16_000_000


async def test_a_body_that_is_too_large_has_failed(upstream):
    answer = await call_url(upstream.url("/big/6"))
    assert (answer.outcome, answer.status, answer.bytes) == ("failed", None, None)
    assert answer.error == f"The response from {upstream.address} is larger than {MAX_BODY_BYTES:,} bytes."


async def test_the_time_is_that_of_the_whole_answer(upstream, settings):
    """Without the time that the call waits for its turn at the server."""
    settings.NOTIFICATIONS |= {"OUTBOUND_PER_HOST": 1}
    first, second = await asyncio.gather(*[call_url(upstream.url("/slow/1")) for _ in range(2)])
    assert 1000 <= first.elapsed_ms < 1900 and 1000 <= second.elapsed_ms < 1900

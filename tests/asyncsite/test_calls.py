"""Calls of one URL and their results."""

import asyncio
import time
import tracemalloc

import pytest

from asyncsite.calls import MAX_BODY_BYTES, call_url

pytestmark = pytest.mark.nightly_on_old_django

CONCURRENT_CALLS = 20


async def test_bodies_are_counted_and_not_kept(upstream, settings):
    """Twenty concurrent bodies of 4 MB use less memory than four of them."""
    settings.NOTIFICATIONS = settings.NOTIFICATIONS | {"OUTBOUND_PER_HOST": CONCURRENT_CALLS}
    tracemalloc.start()
    try:
        results = await asyncio.gather(*[call_url(upstream.url("/big/4")) for _ in range(CONCURRENT_CALLS)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {(result.outcome, result.bytes) for result in results} == {("ok", 4_000_000)}
    assert peak < 16_000_000


async def test_a_body_that_is_too_large_fails(upstream):
    result = await call_url(upstream.url("/big/6"))
    assert (result.outcome, result.status, result.bytes) == ("failed", None, None)
    assert result.error == f"The response from {upstream.address} is larger than {MAX_BODY_BYTES:,} bytes."


async def test_the_elapsed_time_is_that_of_the_whole_response(upstream, settings):
    """It excludes the time in which the call waits for its host."""
    settings.NOTIFICATIONS = settings.NOTIFICATIONS | {"OUTBOUND_PER_HOST": 1}
    started = time.monotonic()
    first, second = await asyncio.gather(*[call_url(upstream.url("/slow/2")) for _ in range(2)])
    both_ms = (time.monotonic() - started) * 1000
    assert first.elapsed_ms >= 2000 and second.elapsed_ms >= 2000
    assert first.elapsed_ms + second.elapsed_ms <= both_ms + 2  # each is rounded

"""Bodies that are read while they arrive."""

import asyncio
import contextlib
import tracemalloc

import pytest

from notifications import outbound

from .upstream import CannedServer


async def test_stream(upstream):
    """The head is available first, then the body in chunks."""
    async with outbound.stream("GET", upstream.url("/redirect?to=/big/3")) as response:
        response.raise_for_status()
        assert (response.status, response.url, response.attempts) == (200, upstream.url("/big/3"), 1)
        assert len(response.history) == 1
        assert "Date" in response.headers
        sizes = [len(chunk) async for chunk in response]
    assert sum(sizes) == 3_000_000
    assert min(sizes) > 0
    assert len(sizes) > 3


async def test_memory(upstream):
    """A large body is never in memory as a whole."""
    tracemalloc.start()
    size = 0
    async with outbound.stream("GET", upstream.url("/big/60")) as response:
        async for chunk in response:
            size += len(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 60_000_000
    assert peak < 8_000_000


async def test_arguments(upstream):
    """stream() takes the arguments of request()."""
    async with outbound.stream(
        "POST", upstream.url("/echo"), json={"a": 1}, headers={"X-A": "b"}
    ) as response:
        body = b"".join([chunk async for chunk in response])
    assert b'"x-a": "b"' in body


async def test_decompressed_and_counted(upstream):
    """Chunks are decompressed, and limited by max_bytes."""
    url = upstream.url("/compressed/1000000?encoding=gzip")
    async with outbound.stream("GET", url) as response:
        assert sum([len(chunk) async for chunk in response]) == 1_000_000
    with pytest.raises(outbound.TooLarge):
        async with outbound.stream("GET", url, max_bytes=999_999) as response:
            async for _ in response:
                pass
    assert (await outbound.get(upstream.url("/ok"))).status == 200


async def test_body_is_read_once(upstream):
    async with outbound.stream("GET", upstream.url("/ok")) as response:
        assert [chunk async for chunk in response] == [b"ok"]
        with pytest.raises(RuntimeError, match="has already been read"):
            await anext(aiter(response))


async def test_retries(upstream):
    """The request is retried until there is a response."""
    async with outbound.stream("GET", upstream.url("/sequence?statuses=503")) as response:
        assert [chunk async for chunk in response] == [b"ok"]
    assert response.attempts == 2


async def test_elapsed(upstream):
    """elapsed runs from the first request to the end of the block, over all attempts."""
    async with outbound.stream("GET", upstream.url("/slow/0.2")) as response:
        first = response.elapsed
        await asyncio.sleep(0.1)
        assert response.elapsed >= first + 0.1 >= 0.3
    end = response.elapsed
    await asyncio.sleep(0.05)
    assert response.elapsed == end >= 0.3


@pytest.mark.parametrize("action", ["read nothing", "break", "raise"])
async def test_leaving_early(upstream, allow, action):
    """Leaving the block early releases the slot, and the next call does not read the rest of the body."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    with pytest.raises(ZeroDivisionError) if action == "raise" else contextlib.nullcontext():
        async with outbound.stream("GET", upstream.url("/big/50")) as response:
            if action != "read nothing":
                async for _ in response:
                    if action == "raise":
                        raise ZeroDivisionError
                    break
    assert (await outbound.get(upstream.url("/ok"), deadline=5)).text() == "ok"
    assert outbound.state().busy == 0


async def test_slot_is_held(upstream, allow):
    """A stream holds its slot while it is read."""
    allow(upstream.address, OUTBOUND_PER_HOST=1)
    async with outbound.stream("GET", upstream.url("/ok")):
        with pytest.raises(outbound.TimedOut, match="too many other calls were waiting"):
            await outbound.get(upstream.url("/ok"), deadline=0.1)


async def test_deadline(upstream):
    """The deadline covers everything; a TimeoutError of the caller is not replaced."""
    with pytest.raises(outbound.TimedOut):
        async with outbound.stream("GET", upstream.url("/drip"), deadline=0.3) as response:
            async for _ in response:
                pass
    with pytest.raises(TimeoutError):
        async with outbound.stream("GET", upstream.url("/ok")):
            raise TimeoutError
    assert outbound.state().busy == 0


async def test_incomplete_body(allow):
    """A body that ends too early raises after the chunks that arrived."""
    chunks = []
    with CannedServer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") as server:
        allow(server.address)
        with pytest.raises(outbound.BadResponse, match="ended too early"):
            async with outbound.stream("GET", server.url) as response:
                chunks += [chunk async for chunk in response]
        assert server.request_count == 1
    assert outbound.state().busy == 0

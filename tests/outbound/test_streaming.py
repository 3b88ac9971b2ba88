"""Bodies that are read while they arrive."""

import asyncio
import contextlib
import tracemalloc

import pytest

from notifications import outbound

from .upstream import Says


async def test_stream(upstream):
    """The head is there first, then the body in pieces."""
    async with outbound.stream("GET", upstream.url("/redirect?to=/big/3")) as answer:
        answer.raise_for_status()
        assert (answer.status, answer.url, answer.attempts) == (200, upstream.url("/big/3"), 1)
        assert len(answer.history) == 1
        assert "Date" in answer.headers
        sizes = [len(piece) async for piece in answer]
    assert sum(sizes) == 3_000_000
    assert min(sizes) > 0
    assert len(sizes) > 3


async def test_memory(upstream):
    """A large body is never held."""
    tracemalloc.start()
    size = 0
    async with outbound.stream("GET", upstream.url("/big/60")) as answer:
        async for piece in answer:
            size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 60_000_000
    assert peak < 8_000_000


async def test_what_was_asked(upstream):
    """It takes what request() takes."""
    async with outbound.stream("POST", upstream.url("/echo"), json={"a": 1}, headers={"X-A": "b"}) as answer:
        body = b"".join([piece async for piece in answer])
    assert b'"x-a": "b"' in body


async def test_unpacked_and_counted(upstream):
    """Pieces are unpacked, and too much of them is an error."""
    url = upstream.url("/packed/1000000?encoding=gzip")
    async with outbound.stream("GET", url) as answer:
        assert sum([len(piece) async for piece in answer]) == 1_000_000
    with pytest.raises(outbound.TooLarge):
        async with outbound.stream("GET", url, max_bytes=999_999) as answer:
            async for _ in answer:
                pass
    assert (await outbound.get(upstream.url("/ok"))).status == 200


async def test_once(upstream):
    """A body can be read once."""
    async with outbound.stream("GET", upstream.url("/ok")) as answer:
        assert [piece async for piece in answer] == [b"ok"]
        with pytest.raises(RuntimeError, match="can be read once"):
            await anext(aiter(answer))


async def test_retries(upstream):
    """It is tried again until there is an answer."""
    async with outbound.stream("GET", upstream.url("/times?say=503")) as answer:
        assert [piece async for piece in answer] == [b"ok"]
    assert answer.attempts == 2


async def test_elapsed(upstream):
    """The seconds run from the first request to the end of the block, over all attempts."""
    async with outbound.stream("GET", upstream.url("/slow/0.2")) as answer:
        first = answer.elapsed
        await asyncio.sleep(0.1)
        assert answer.elapsed >= first + 0.1 >= 0.3
    end = answer.elapsed
    await asyncio.sleep(0.05)
    assert answer.elapsed == end >= 0.3


@pytest.mark.parametrize("left", ["unread", "break", "raise"])
async def test_leaving_early(upstream, allow, left):
    """Whoever leaves early gives the place back, and what was not read is not read by the next call."""
    allow(upstream.place, OUTBOUND_PER_HOST=1)
    with pytest.raises(ZeroDivisionError) if left == "raise" else contextlib.nullcontext():
        async with outbound.stream("GET", upstream.url("/big/50")) as answer:
            if left != "unread":
                async for _ in answer:
                    if left == "raise":
                        raise ZeroDivisionError
                    break
    assert (await outbound.get(upstream.url("/ok"), deadline=5)).text() == "ok"
    assert outbound.state().busy == 0


async def test_the_place_is_held(upstream, allow):
    """An answer that is being read has its place."""
    allow(upstream.place, OUTBOUND_PER_HOST=1)
    async with outbound.stream("GET", upstream.url("/ok")):
        with pytest.raises(outbound.TimedOut, match="too many other calls came first"):
            await outbound.get(upstream.url("/ok"), deadline=0.1)


async def test_deadline(upstream):
    """The deadline is over all of it; a timeout of what is done with the pieces is not mistaken for it."""
    with pytest.raises(outbound.TimedOut):
        async with outbound.stream("GET", upstream.url("/drip"), deadline=0.3) as answer:
            async for _ in answer:
                pass
    with pytest.raises(TimeoutError):
        async with outbound.stream("GET", upstream.url("/ok")):
            raise TimeoutError
    assert outbound.state().busy == 0


async def test_broken_off(allow):
    """A body that ends too early is an error after the pieces that came."""
    pieces = []
    with Says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") as says:
        allow(says.address)
        with pytest.raises(outbound.BadResponse, match="broke off in the middle"):
            async with outbound.stream("GET", says.url) as answer:
                pieces += [piece async for piece in answer]
        assert says.asked == 1
    assert outbound.state().busy == 0

"""Bodies: counted while they arrive, with limited memory."""

import tracemalloc

import pytest

from notifications import outbound

from .upstream import CannedServer


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
async def test_up_to_max_bytes(upstream, size):
    """A body may have exactly max_bytes."""
    assert (await outbound.get(upstream.url(f"/sized/{size}"), max_bytes=1000)).body == b"x" * size


async def test_content_length_too_large(allow):
    """A body whose Content-Length is too large is not read."""
    with CannedServer(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", keep_open=True) as server:
        allow(server.address)
        with pytest.raises(outbound.TooLarge) as error:
            await outbound.get(server.url, max_bytes=1000)
    assert str(error.value) == f"The response from {server.address} is larger than 1,000 bytes."


async def test_too_large_without_content_length(upstream):
    """A body without Content-Length is counted as it arrives, and reading stops at the limit."""
    tracemalloc.start()
    with pytest.raises(outbound.TooLarge):
        await outbound.get(upstream.url("/big/1000"), max_bytes=1_000_000, deadline=20)
    assert stop_and_get_peak_bytes() < 6_000_000


async def test_connection_is_closed_after_too_large(upstream):
    """After a body that was not read completely, the next call uses a new connection."""
    with pytest.raises(outbound.TooLarge):
        await outbound.get(upstream.url("/sized/1000000"), max_bytes=10)
    assert (await outbound.get(upstream.url("/ok"))).text() == "ok"
    assert len(upstream.connections) == 2


def stop_and_get_peak_bytes():
    """Stop tracemalloc and return the stop_and_get_peak_bytes of memory."""
    try:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

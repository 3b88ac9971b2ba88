"""Bodies: unpacked, counted as they arrive, with bounded memory."""

import gzip
import tracemalloc

import pytest

from notifications import outbound
from notifications.outbound import decompression
from notifications.outbound.decompression import PIECE

from .upstream import Says, answer, pack


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
async def test_up_to_max_bytes(upstream, size):
    """A body may be as large as max_bytes."""
    assert (await outbound.get(upstream.url(f"/sized/{size}"), max_bytes=1000)).body == b"x" * size


async def test_content_length_too_large(allow):
    """A body whose announced length is too large is not waited for."""
    with Says(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", keep=True) as says:
        allow(says.address)
        with pytest.raises(outbound.TooLarge) as large:
            await outbound.get(says.url, max_bytes=1000)
    assert str(large.value) == f"The answer of {says.address} is larger than 1,000 bytes."


async def test_large_without_length(upstream):
    """A body without a length is counted as it arrives, and the rest is not read."""
    tracemalloc.start()
    with pytest.raises(outbound.TooLarge):
        await outbound.get(upstream.url("/big/1000"), max_bytes=1_000_000, deadline=20)
    assert peak() < 6_000_000


PACKINGS = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "br, zstd", "gzip, gzip, gzip"]


@pytest.mark.parametrize("encoding", [*PACKINGS, "x-gzip", "GZIP"])
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 258, 1_000_000])
async def test_unpacked(upstream, encoding, size):
    """Packed bodies arrive unpacked, to the last byte, also packed several times."""
    url = upstream.url(f"/packed/{size}")
    response = await outbound.get(url, params={"encoding": encoding}, max_bytes=1_000_000)
    assert response.body == bytes(size)


@pytest.mark.parametrize("encoding", PACKINGS)
async def test_unpacked_is_counted(upstream, encoding):
    """Unpacked bytes count too, to the byte."""
    url, params = upstream.url("/packed/100000"), {"encoding": encoding}
    assert await outbound.get(url, params=params, max_bytes=100_000)
    with pytest.raises(outbound.TooLarge):
        await outbound.get(url, params=params, max_bytes=99_999)


@pytest.mark.parametrize("encoding", PACKINGS)
async def test_bomb(allow, encoding):
    """100 MB in a few bytes: an error, and memory stays near max_bytes."""
    body = pack(encoding, 100_000_000)
    assert len(body) < 100_000
    with Says(answer(body, f"Content-Encoding: {encoding}")) as says:
        allow(says.address)
        tracemalloc.start()
        with pytest.raises(outbound.TooLarge):
            await outbound.get(says.url, max_bytes=1_000_000)
        assert peak() < 6_000_000


async def test_a_layer_in_between_is_counted(allow):
    """What is large only in the middle, and small again at the end, is too large all the same."""
    body = gzip.compress(pack("gzip", 10) + pack("gzip", 0) * 90)
    with Says(answer(body, "Content-Encoding: gzip, gzip")) as says:
        allow(says.address)
        assert (await outbound.get(says.url, max_bytes=5000)).body == bytes(10)
        with pytest.raises(outbound.TooLarge):
            await outbound.get(says.url, max_bytes=1000)


async def test_packed_is_counted(allow):
    """Packed bytes that unpack to nothing count too."""
    empty = pack("gzip", 0)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    with Says(head + empty * 90) as says:
        allow(says.address)
        assert (await outbound.get(says.url, max_bytes=len(empty) * 90)).body == b""
        with pytest.raises(outbound.TooLarge):
            await outbound.get(says.url, max_bytes=len(empty) * 90 - 1)


async def test_members(allow):
    """A gzip body of several members is one body; of very many it is an attack."""
    for many, expected in ((3, 30), (101, None)):
        with Says(answer(pack("gzip", 10) * many, "Content-Encoding: gzip")) as says:
            allow(says.address)
            if expected is None:
                with pytest.raises(outbound.BadResponse, match="cannot be unpacked"):
                    await outbound.get(says.url)
            else:
                assert (await outbound.get(says.url)).body == bytes(expected)


@pytest.mark.parametrize("size", [1000, PIECE, PIECE + 1, PIECE + 100, 2 * PIECE + 5])
async def test_bare_deflate(allow, size):
    """Deflate without zlib's frame, as some servers send it, arrives to the last byte too."""
    with Says(answer(pack("raw", size), "Content-Encoding: deflate")) as says:
        allow(says.address)
        assert (await outbound.get(says.url)).body == bytes(size)


@pytest.mark.parametrize("encoding", ["compress", "nonsense", "gzip, gzip, gzip, gzip", "gzip;q=1"])
async def test_other_packing(allow, encoding):
    """Packing that was not asked for, or of too many layers, is an error, not a body of garbage."""
    with Says(answer(b"abc", f"Content-Encoding: {encoding}")) as says:
        allow(says.address)
        with pytest.raises(outbound.BadResponse, match="cannot be unpacked"):
            await outbound.get(says.url)


async def test_what_is_not_installed(upstream, monkeypatch):
    """Without their libraries br and zstd are not asked for, and an error if they come all the same."""
    for kind in ("br", "zstd"):
        assert kind in decompression.ACCEPTED
        monkeypatch.delitem(decompression._KINDS, kind)
        with pytest.raises(outbound.BadResponse, match="cannot be unpacked"):
            await outbound.get(upstream.url(f"/packed/10?encoding={kind}"))


async def test_a_large_window(allow):
    """A zstd frame that wants more than 8 MB of memory to be unpacked is refused (RFC 9659)."""
    options = {decompression.zstd.CompressionParameter.window_log: 27}
    packer = decompression.zstd.ZstdCompressor(options=options)
    body = packer.compress(bytes(1000)) + packer.flush()
    with Says(answer(body, "Content-Encoding: zstd")) as says:
        allow(says.address)
        with pytest.raises(outbound.BadResponse, match="cannot be unpacked"):
            await outbound.get(says.url)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "br, gzip"])
@pytest.mark.parametrize("cut", [1, 5, 12])
async def test_cut_packing(upstream, encoding, cut):
    """A packed body that ends too early is an error, although its Content-Length is right."""
    with pytest.raises(outbound.BadResponse, match="cannot be unpacked"):
        url, params = upstream.url(f"/packed/100000?cut={cut}"), {"encoding": encoding}
        await outbound.get(url, params=params)


async def test_garbage_instead_of_packing(allow):
    """Bytes that are not what their encoding says."""
    for encoding in ("gzip", "deflate", "br", "zstd"):
        with Says(answer(b"plain text", f"Content-Encoding: {encoding}")) as says:
            allow(says.address)
            with pytest.raises(outbound.BadResponse, match="cannot be unpacked"):
                await outbound.get(says.url)


async def test_the_connection_is_not_kept(upstream):
    """After a body that was not read to its end the next call is answered on a new connection."""
    with pytest.raises(outbound.TooLarge):
        await outbound.get(upstream.url("/sized/1000000"), max_bytes=10)
    assert (await outbound.get(upstream.url("/ok"))).text() == "ok"
    assert len(upstream.connections) == 2


def peak():
    """Peak of memory since tracemalloc was started, in bytes."""
    try:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

"""Decompression of bodies, with limited memory."""

import gzip
import tracemalloc
from itertools import product

import pytest

from notifications import outbound
from notifications.outbound import decompression
from notifications.outbound.decompression import MAX_CHUNK_BYTES
from tests.support.offenders import collect_offenders

from .upstream import CannedServer, compress, http_response

ENCODINGS = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "br, zstd", "gzip, gzip, gzip"]


SIZES = [
    0,
    1,
    MAX_CHUNK_BYTES - 1,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_BYTES + 1,
    2 * MAX_CHUNK_BYTES,
    3 * MAX_CHUNK_BYTES + 258,
    1_000_000,
]


async def test_decompressed(upstream):
    """Compressed bodies are decompressed to the last byte, also with nested encodings."""
    with collect_offenders() as offenders:
        for encoding, size in product([*ENCODINGS, "x-gzip", "GZIP"], SIZES):
            with offenders.row(f"{encoding}, {size} bytes"):
                url = upstream.url(f"/compressed/{size}")
                response = await outbound.get(url, params={"encoding": encoding}, max_bytes=1_000_000)
                assert response.body == bytes(size)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_decompressed_bytes_are_counted(upstream, encoding):
    """max_bytes limits the decompressed bytes exactly."""
    url, params = upstream.url("/compressed/100000"), {"encoding": encoding}
    assert await outbound.get(url, params=params, max_bytes=100_000)
    with pytest.raises(outbound.TooLarge):
        await outbound.get(url, params=params, max_bytes=99_999)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_decompression_bomb(allow, encoding):
    """20 MB in a few bytes raise TooLarge, with memory near max_bytes."""
    body = compress(encoding, 20_000_000)
    assert len(body) < 100_000
    with CannedServer(http_response(body, f"Content-Encoding: {encoding}")) as server:
        allow(server.address)
        tracemalloc.start()
        with pytest.raises(outbound.TooLarge):
            await outbound.get(server.url, max_bytes=1_000_000)
        assert stop_and_get_peak_bytes() < 6_000_000


async def test_bytes_between_nested_encodings_are_counted(allow):
    """A body that is large only between two nested encodings is too large."""
    body = gzip.compress(compress("gzip", 10) + compress("gzip", 0) * 90)
    with CannedServer(http_response(body, "Content-Encoding: gzip, gzip")) as server:
        allow(server.address)
        assert (await outbound.get(server.url, max_bytes=5000)).body == bytes(10)
        with pytest.raises(outbound.TooLarge):
            await outbound.get(server.url, max_bytes=1000)


async def test_compressed_bytes_are_counted(allow):
    """max_bytes also limits compressed bytes that decompress to nothing."""
    empty = compress("gzip", 0)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    with CannedServer(head + empty * 90) as server:
        allow(server.address)
        assert (await outbound.get(server.url, max_bytes=len(empty) * 90)).body == b""
        with pytest.raises(outbound.TooLarge):
            await outbound.get(server.url, max_bytes=len(empty) * 90 - 1)


async def test_gzip_members(allow):
    """A gzip body may have several members, but at most MAX_MEMBERS."""
    for members, expected in ((3, 30), (101, None)):
        with CannedServer(http_response(compress("gzip", 10) * members, "Content-Encoding: gzip")) as server:
            allow(server.address)
            if expected is None:
                with pytest.raises(outbound.BadResponse, match="cannot be decompressed"):
                    await outbound.get(server.url)
            else:
                assert (await outbound.get(server.url)).body == bytes(expected)


@pytest.mark.parametrize(
    "size", [1000, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, MAX_CHUNK_BYTES + 100, 2 * MAX_CHUNK_BYTES + 5]
)
async def test_raw_deflate(allow, size):
    """Deflate without the zlib frame, as some servers send it, is decompressed too."""
    with CannedServer(http_response(compress("raw", size), "Content-Encoding: deflate")) as server:
        allow(server.address)
        assert (await outbound.get(server.url)).body == bytes(size)


@pytest.mark.parametrize("encoding", ["compress", "nonsense", "gzip, gzip, gzip, gzip", "gzip;q=1"])
async def test_unsupported_encoding(allow, encoding):
    """An encoding that was not requested, or too many nested ones, is an error."""
    with CannedServer(http_response(b"abc", f"Content-Encoding: {encoding}")) as server:
        allow(server.address)
        with pytest.raises(outbound.BadResponse, match="cannot be decompressed"):
            await outbound.get(server.url)


async def test_missing_libraries(upstream, monkeypatch):
    """Without their libraries br and zstd are not requested, and are an error in a response."""
    for encoding in ("br", "zstd"):
        assert encoding in decompression.ACCEPT_ENCODING
        monkeypatch.delitem(decompression._DECOMPRESSORS, encoding)
        with pytest.raises(outbound.BadResponse, match="cannot be decompressed"):
            await outbound.get(upstream.url(f"/compressed/10?encoding={encoding}"))


async def test_large_zstd_window(allow):
    """A zstd frame with a window above 8 MB is refused (RFC 9659)."""
    options = {decompression.zstd.CompressionParameter.window_log: 27}
    compressor = decompression.zstd.ZstdCompressor(options=options)
    body = compressor.compress(bytes(1000)) + compressor.flush()
    with CannedServer(http_response(body, "Content-Encoding: zstd")) as server:
        allow(server.address)
        with pytest.raises(outbound.BadResponse, match="cannot be decompressed"):
            await outbound.get(server.url)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "br, gzip"])
@pytest.mark.parametrize("cut", [1, 5, 12])
async def test_truncated_compressed_body(upstream, encoding, cut):
    """A compressed body that ends too early is an error, although its Content-Length is right."""
    with pytest.raises(outbound.BadResponse, match="cannot be decompressed"):
        url, params = upstream.url(f"/compressed/100000?cut={cut}"), {"encoding": encoding}
        await outbound.get(url, params=params)


async def test_corrupt_compressed_body(allow):
    """Bytes that do not match their Content-Encoding are an error."""
    for encoding in ("gzip", "deflate", "br", "zstd"):
        with CannedServer(http_response(b"plain text", f"Content-Encoding: {encoding}")) as server:
            allow(server.address)
            with pytest.raises(outbound.BadResponse, match="cannot be decompressed"):
                await outbound.get(server.url)


def stop_and_get_peak_bytes():
    """Stop tracemalloc and return the stop_and_get_peak_bytes of memory."""
    try:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

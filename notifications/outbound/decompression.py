"""Decompress a response (RFC 9110, section 8.4.1) in chunks of limited size, so that a bomb is noticed early.

gzip and deflate are always supported, br with ``brotli`` 1.2 or newer, zstd on Python 3.14 or with ``backports.zstd``.
aiohttp's own decompression limits the size too, but (in 3.14.5) ends without an error where a gzip, br or zstd body is
cut off, which a caller would take for the whole body; lets a zstd sender choose a window of 128 MB; and reads neither
nested encodings nor x-gzip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

try:
    import brotli
except ImportError:
    brotli = None
else:
    if not hasattr(brotli.Decompressor, "can_accept_more_data"):
        brotli = None  # Before 1.2 the size of the output cannot be limited.

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from backports import zstd
    except ImportError:
        zstd = None

MAX_CHUNK_BYTES = 65_536
MAX_MEMBERS = 100  # of one gzip body, or frames of one zstd body
MAX_LAYERS = 3  # nested encodings of one body


class BadEncoding(Exception):
    """The body does not match its Content-Encoding, or that encoding is not in ACCEPT_ENCODING."""


ERRORS: tuple[type[Exception], ...] = (
    BadEncoding,
    zlib.error,
    *((brotli.error,) if brotli else ()),
    *((zstd.ZstdError,) if zstd else ()),
)


class Decompressor(Protocol):
    """Decompresses a body as it arrives. A body without encoding is passed through."""

    @property
    def is_complete(self) -> bool:
        """Whether the compressed body may end here."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes in chunks of about MAX_CHUNK_BYTES at most, some of them empty."""


def make_decompressor(content_encoding: str, count: Callable[[int], None]) -> Decompressor:
    """Return the decompressor for a Content-Encoding; raise BadEncoding if it is not supported.

    ``count`` is called with the size of each chunk that passes between two nested encodings.
    """
    names = [
        name
        for name in (part.strip().lower() for part in content_encoding.split(","))
        if name not in ("", "identity")
    ]
    if len(names) > MAX_LAYERS:
        raise BadEncoding("too many layers")
    try:
        layers = [_DECOMPRESSORS[name]() for name in reversed(names)]
    except KeyError as exc:
        raise BadEncoding("an encoding that was not requested") from exc
    if len(layers) == 1:
        return layers[0]
    return _Nested(layers, count) if layers else _Identity()


class _Identity:
    is_complete = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data


class _Nested:
    """Several encodings, the one that was applied last first."""

    def __init__(self, layers: list[Decompressor], count: Callable[[int], None]) -> None:
        self._layers = layers
        self._count = count

    @property
    def is_complete(self) -> bool:
        return all(layer.is_complete for layer in self._layers)

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._feed_layer(0, data)

    def _feed_layer(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._layers) - 1:
            yield from self._layers[depth].feed(data)
            return
        for chunk in self._layers[depth].feed(data):
            self._count(len(chunk))
            yield from self._feed_layer(depth + 1, chunk)


class _Gzip:
    """gzip (RFC 1952), of one or several members."""

    wbits = 31

    def __init__(self) -> None:
        self._members = 1
        self._inflate = zlib.decompressobj(self.wbits)

    @property
    def is_complete(self) -> bool:
        return self._inflate.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        chunk = b""
        # After a full chunk the decompressor may have more output although its input is used up.
        while data or (len(chunk) == MAX_CHUNK_BYTES and not self._inflate.eof):
            if self._inflate.eof:
                self._start_member()
            chunk = self._inflate.decompress(data, MAX_CHUNK_BYTES)
            yield chunk
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def _start_member(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise BadEncoding("too many members")
        self._inflate = zlib.decompressobj(self.wbits)


class _Deflate(_Gzip):
    """deflate: zlib (RFC 1950) as RFC 9110 requires, or raw (RFC 1951) as some servers send."""

    wbits = 15
    _has_started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._has_started and data:
            self._has_started = True
            if data[0] & 0x0F != 8:
                self._inflate = zlib.decompressobj(-15)
        yield from super().feed(data)

    def _start_member(self) -> None:
        raise BadEncoding("data after the end")


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    @property
    def is_complete(self) -> bool:
        return self._decompressor.is_finished()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            # A chunk may exceed the limit by half. There is more output until a chunk is empty.
            chunk = self._decompressor.process(data, output_buffer_limit=MAX_CHUNK_BYTES)
            yield chunk
            if not chunk or self.is_complete:
                return
            data = b""


class _Zstd:
    """zstd (RFC 8878), of one or several frames."""

    def __init__(self) -> None:
        self._frames = 1
        self._decompressor = self._make_decompressor()

    @property
    def is_complete(self) -> bool:
        return self._decompressor.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._decompressor.eof:
                if not data:
                    return
                self._start_frame()
            yield self._decompressor.decompress(data, MAX_CHUNK_BYTES)
            data = self._decompressor.unused_data if self._decompressor.eof else b""
            if self._decompressor.needs_input:
                return

    def _start_frame(self) -> None:
        self._frames += 1
        if self._frames > MAX_MEMBERS:
            raise BadEncoding("too many frames")
        self._decompressor = self._make_decompressor()

    def _make_decompressor(self) -> Any:
        # Windows of at most 8 MB (RFC 9659). With more, the sender would decide how much memory is used.
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})


_DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    **({"br": _Brotli} if brotli else {}),
    **({"zstd": _Zstd} if zstd else {}),
}

#: The value of the Accept-Encoding header.
ACCEPT_ENCODING = ", ".join(name for name in _DECOMPRESSORS if name != "x-gzip")

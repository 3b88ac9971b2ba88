"""Unpacking what arrives (RFC 9110, section 8.4.1), in pieces, so that it can be counted before it is held.

gzip and deflate always; br with ``brotli`` 1.2 or newer, zstd on Python 3.14 or with ``backports.zstd``.
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
    if not hasattr(
        brotli.Decompressor, "can_accept_more_data"
    ):  # older ones have no bound for what comes out
        brotli = None

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from backports import zstd
    except ImportError:
        zstd = None

PIECE = 65_536  # bytes unpacked at a time
MAX_MEMBERS = 100  # parts of one gzip or zstd body
MAX_LAYERS = 3  # encodings of one body, one in the other


class BadEncoding(Exception):
    """The bytes are not what their encoding says, or the encoding was not asked for."""


ERRORS: tuple[type[Exception], ...] = (
    BadEncoding,
    zlib.error,
    *((brotli.error,) if brotli else ()),
    *((zstd.ZstdError,) if zstd else ()),
)


class Decompressor(Protocol):
    """Takes bytes as they arrive and gives unpacked pieces of at most PIECE bytes, or what arrived if it is plain."""

    @property
    def whole(self) -> bool:
        """Whether the packed bytes may end here."""

    def feed(self, chunk: bytes) -> Iterator[bytes]: ...


def decompressor(encoding: str, count: Callable[[int], None]) -> Decompressor:
    """Return what unpacks a body with this Content-Encoding; raise BadPacking for one that was not asked for.

    ``count`` is called with the size of each piece that comes out of an inner layer.
    """
    names = [
        name
        for name in (part.strip().lower() for part in encoding.split(","))
        if name not in ("", "identity")
    ]
    if len(names) > MAX_LAYERS:
        raise BadEncoding("too many layers")
    try:
        layers = [_KINDS[name]() for name in reversed(names)]
    except KeyError as exc:
        raise BadEncoding("not what was asked for") from exc
    if len(layers) == 1:
        return layers[0]
    return _Layers(layers, count) if layers else _Plain()


class _Plain:
    """No packing."""

    whole = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk


class _Layers:
    """Packed several times; the layer that was put on last comes off first."""

    def __init__(self, layers: list[Decompressor], count: Callable[[int], None]) -> None:
        self._layers = layers
        self._count = count

    @property
    def whole(self) -> bool:
        return all(layer.whole for layer in self._layers)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        return self._feed(chunk, 0)

    def _feed(self, chunk: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._layers) - 1:
            yield from self._layers[depth].feed(chunk)
            return
        for piece in self._layers[depth].feed(chunk):
            self._count(len(piece))
            yield from self._feed(piece, depth + 1)


class _Gzip:
    """gzip (RFC 1952), also in several members."""

    wbits = 31

    def __init__(self) -> None:
        self._members = 1
        self._inflate = zlib.decompressobj(self.wbits)

    @property
    def whole(self) -> bool:
        return self._inflate.eof

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        piece = b""
        # A full piece may leave more inside the decompressor although its input is used up.
        while chunk or (len(piece) == PIECE and not self._inflate.eof):
            if self._inflate.eof:
                self._next_member()
            piece = self._inflate.decompress(chunk, PIECE)
            yield piece
            chunk = self._inflate.unconsumed_tail or self._inflate.unused_data

    def _next_member(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise BadEncoding("too many members")
        self._inflate = zlib.decompressobj(self.wbits)


class _Deflate(_Gzip):
    """deflate: zlib (RFC 1950) as RFC 9110 says, or bare (RFC 1951) as some servers send it."""

    wbits = 15
    _started = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if not self._started and chunk:
            self._started = True
            if chunk[0] & 0x0F != 8:
                self._inflate = zlib.decompressobj(-15)
        yield from super().feed(chunk)

    def _next_member(self) -> None:
        raise BadEncoding("data after the end")


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    @property
    def whole(self) -> bool:
        return self._decompressor.is_finished()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            # A piece may be half as large again as the limit, and there is more until one is empty.
            piece = self._decompressor.process(chunk, output_buffer_limit=PIECE)
            yield piece
            if not piece or self.whole:
                return
            chunk = b""


class _Zstd:
    """zstd (RFC 8878), also in several frames."""

    def __init__(self) -> None:
        self._frames = 1
        self._decompressor = self._new()

    @property
    def whole(self) -> bool:
        return self._decompressor.eof

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            if self._decompressor.eof:
                if not chunk:
                    return
                self._next_frame()
            yield self._decompressor.decompress(chunk, PIECE)
            chunk = self._decompressor.unused_data if self._decompressor.eof else b""
            if self._decompressor.needs_input:
                return

    def _next_frame(self) -> None:
        self._frames += 1
        if self._frames > MAX_MEMBERS:
            raise BadEncoding("too many frames")
        self._decompressor = self._new()

    def _new(self) -> Any:
        # Windows of up to 8 MB, as RFC 9659 asks for: more is memory that the sender decides about.
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})


_KINDS: dict[str, Callable[[], Decompressor]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    **({"br": _Brotli} if brotli else {}),
    **({"zstd": _Zstd} if zstd else {}),
}

#: The Accept-Encoding that is sent.
ACCEPTED = ", ".join(name for name in _KINDS if name != "x-gzip")

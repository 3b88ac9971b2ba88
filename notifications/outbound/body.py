"""Bodies: what is sent, made into bytes once, and what comes back, unpacked and counted as it arrives."""

from __future__ import annotations

import json as json_module
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientResponse

from .errors import BadResponse, TooLarge

ACCEPTED = "gzip, deflate"

PIECE = 65_536  # bytes unpacked at a time
MAX_MEMBERS = 100  # parts of one gzip body

Form = Mapping[str, Any] | Sequence[tuple[str, Any]]


def encode(json: Any, data: bytes | str | Form | None) -> tuple[bytes | None, str]:
    """Return the bytes to send (None: no body) and their content type.

    Bytes, so that a redirect can send the same again.
    Raise ValueError for both ``json`` and ``data`` or for NaN, TypeError for what cannot be made into bytes.
    """
    if json is not None and data is not None:
        raise ValueError("Give json or data, not both.")
    if json is not None:
        return json_module.dumps(json, allow_nan=False).encode(), "application/json"
    if data is None:
        return None, ""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), "application/octet-stream"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    if isinstance(data, Mapping | list | tuple):
        return urlencode(data, doseq=True).encode(), "application/x-www-form-urlencoded"
    raise TypeError(f"data is {type(data).__name__}. Give bytes, str, a mapping or a list of pairs.")


async def read(answer: ClientResponse, max_bytes: int, subject: str) -> bytes:
    """Return the unpacked body; raise TooLarge or BadResponse as soon as that is known.

    Never holds more than ``max_bytes`` and one piece: packed bytes are counted, and so are the unpacked ones.
    """
    if answer.method == "HEAD" or answer.status in (204, 304):
        return b""
    try:
        return await _read(answer, max_bytes)
    except _TooMuch:
        answer.close()  # what has not been read is not wanted, and must not be waited for
        raise TooLarge(f"The answer of {subject} is larger than {max_bytes:,} bytes.") from None
    except zlib.error as exc:
        answer.close()
        raise BadResponse(f"The answer of {subject} cannot be unpacked.") from exc


class _TooMuch(Exception):
    """More bytes than allowed."""


async def _read(answer: ClientResponse, max_bytes: int) -> bytes:
    if (answer.content_length or 0) > max_bytes:
        raise _TooMuch
    unpacker = _unpacker(answer)
    body = bytearray()
    arrived = 0
    async for chunk in answer.content.iter_any():
        arrived += len(chunk)
        if arrived > max_bytes:
            raise _TooMuch
        for piece in unpacker.feed(chunk):
            body += piece
            if len(body) > max_bytes:
                raise _TooMuch
    if arrived and not unpacker.whole:
        raise zlib.error("incomplete")
    return bytes(body)


def _unpacker(answer: ClientResponse) -> _Plain | _Gzip:
    encoding = ", ".join(answer.headers.getall("Content-Encoding", [])).strip().lower()
    if encoding in ("", "identity"):
        return _Plain()
    if encoding in ("gzip", "x-gzip"):
        return _Gzip()
    if encoding == "deflate":
        return _Deflate()
    raise zlib.error("not what was asked for")


class _Plain:
    """No packing."""

    whole = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk


class _Gzip:
    """gzip (RFC 1952), also in several members."""

    wbits = 31
    _members = 1

    def __init__(self) -> None:
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
            raise zlib.error("too many members")
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
        raise zlib.error("data after the end")

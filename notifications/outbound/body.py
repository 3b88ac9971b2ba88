"""Bodies: what is sent, made into bytes once, and what comes back, unpacked and counted as it arrives."""

from __future__ import annotations

import json as json_module
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientResponse

from .decompression import ERRORS, BadEncoding, decompressor
from .errors import BadResponse, TooLarge

Form = Mapping[str, Any] | Sequence[tuple[str, Any]]


def encode(json: Any, data: bytes | str | Form | None) -> tuple[bytes | None, str]:
    """Return the bytes to send (None: no body) and their content type.

    Bytes, so that a redirect or a retry can send the same again.
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
    if answer.content.is_eof() and "Content-Encoding" not in answer.headers:
        whole = answer.content.read_nowait()  # all of it is here already
        if len(whole) > max_bytes:
            raise TooLarge(_too_large(subject, max_bytes))
        return whole
    body = bytearray()
    async for piece in pieces(answer, max_bytes, subject):
        body += piece
    return bytes(body)


async def pieces(answer: ClientResponse, max_bytes: int, subject: str) -> AsyncIterator[bytes]:
    """Yield the unpacked body as it arrives, in pieces that are not empty. Raises as ``read`` does."""
    if answer.method == "HEAD" or answer.status in (204, 304):
        return
    arrived = unpacked = between = 0

    def count(size: int) -> None:
        nonlocal between
        between += size
        if between > max_bytes:
            raise TooLarge(_too_large(subject, max_bytes))

    if (answer.content_length or 0) > max_bytes:
        raise TooLarge(_too_large(subject, max_bytes))
    try:
        unpack = decompressor(",".join(answer.headers.getall("Content-Encoding", ())), count)
        async for chunk in answer.content.iter_any():
            arrived += len(chunk)
            if arrived > max_bytes:
                raise TooLarge(_too_large(subject, max_bytes))
            for piece in unpack.feed(chunk):
                unpacked += len(piece)
                if unpacked > max_bytes:
                    raise TooLarge(_too_large(subject, max_bytes))
                if piece:
                    yield piece
        if arrived and not unpack.whole:
            raise BadEncoding("incomplete")
    except ERRORS as exc:
        raise BadResponse(f"The answer of {subject} cannot be unpacked.") from exc


def _too_large(subject: str, max_bytes: int) -> str:
    return f"The answer of {subject} is larger than {max_bytes:,} bytes."

"""Encode the body of a request; decompress the body of a response while it arrives, within its size limit."""

from __future__ import annotations

import json as json_module
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientResponse
from django.utils.formats import number_format
from django.utils.translation import gettext

from .decompression import ERRORS, BadEncoding, make_decompressor
from .errors import BadResponse, TooLarge

Form = Mapping[str, Any] | Sequence[tuple[str, Any]]


def encode(json: Any, data: bytes | str | Form | None) -> tuple[bytes | None, str]:
    """Return the body (None: no body) and its content type.

    The body is bytes, so that a redirect or a retry can send it again.
    Raises ValueError for both ``json`` and ``data`` or for NaN, TypeError for values that cannot be encoded.
    """
    if json is not None and data is not None:
        raise ValueError("json and data were both given. Give one of them.")
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


async def read(client_response: ClientResponse, max_bytes: int, server: str) -> bytes:
    """Return the decompressed body; raise TooLarge or BadResponse as soon as the first chunk shows it.

    At most ``max_bytes`` and one chunk are in memory: compressed and decompressed bytes are both counted.
    """
    content = client_response.content
    if content.is_eof() and "Content-Encoding" not in client_response.headers:
        body = content.read_nowait()  # The whole body has already arrived.
        if len(body) > max_bytes:
            raise _too_large_error(server, max_bytes)
        return body
    collected = bytearray()
    async for chunk in iter_chunks(client_response, max_bytes, server):
        collected += chunk
    return bytes(collected)


async def iter_chunks(client_response: ClientResponse, max_bytes: int, server: str) -> AsyncIterator[bytes]:
    """Yield the decompressed body as it arrives, in chunks that are not empty; raise the errors of ``read``."""
    if client_response.method == "HEAD" or client_response.status in (204, 304):
        return
    compressed = decompressed = between_layers = 0

    def count_between_layers(size: int) -> None:
        nonlocal between_layers
        between_layers += size
        if between_layers > max_bytes:
            raise _too_large_error(server, max_bytes)

    if (client_response.content_length or 0) > max_bytes:
        raise _too_large_error(server, max_bytes)
    try:
        encodings = ",".join(client_response.headers.getall("Content-Encoding", ()))
        decompressor = make_decompressor(encodings, count_between_layers)
        async for data in client_response.content.iter_any():
            compressed += len(data)
            if compressed > max_bytes:
                raise _too_large_error(server, max_bytes)
            for chunk in decompressor.feed(data):
                decompressed += len(chunk)
                if decompressed > max_bytes:
                    raise _too_large_error(server, max_bytes)
                if chunk:
                    yield chunk
        if compressed and not decompressor.is_complete:
            raise BadEncoding("incomplete")
    except ERRORS as exc:
        text = gettext("The response from {server} cannot be decompressed.")
        raise BadResponse(text.format(server=server)) from exc


def _too_large_error(server: str, max_bytes: int) -> TooLarge:
    text = gettext("The response from {server} is larger than {count} bytes.")
    count = number_format(max_bytes, use_l10n=True, force_grouping=True)
    return TooLarge(text.format(server=server, count=count))

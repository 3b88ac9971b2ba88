"""A response whose body is read while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp

from .body import iter_chunks
from .call import Call
from .exchange import Exchange


class ResponseStream:
    """The head of a response, and its body in chunks: ``async for chunk in response``, once.

    ``status``, ``url``, ``headers``, ``attempts`` and ``history`` are those of ``Response``.
    The chunks are decompressed bytes, of any size from 1 to about 256 KiB.
    ``elapsed`` is the seconds since the first request was sent, without waiting, up to the end of the block.
    """

    def __init__(self, call: Call, exchange: Exchange) -> None:
        head = exchange.to_response()
        self.status: int = head.status
        self.url: str = head.url
        self.headers: Mapping[str, str] = head.headers
        self.attempts: int = head.attempts
        self.history = head.history
        self.raise_for_status = head.raise_for_status
        self._call = call
        self._exchange = exchange
        self._is_read = False
        call.stage = "caller"

    @property
    def elapsed(self) -> float:
        return self._call.elapsed + self._exchange.running_seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_read:
            raise RuntimeError("The body has already been read. Keep the chunks if you need them again.")
        self._is_read = True
        call, exchange = self._call, self._exchange
        try:
            call.stage = "body"
            async for chunk in iter_chunks(exchange.client_response, call.max_bytes, call.server):
                call.body_bytes += len(chunk)
                call.stage = "caller"
                yield chunk
                call.stage = "body"
            call.stage = "caller"
        except (aiohttp.ClientError, asyncio.CancelledError) as exc:
            exchange.end(exc)
            if isinstance(exc, aiohttp.ClientError):
                raise call.translate_error(exc) from exc
            raise

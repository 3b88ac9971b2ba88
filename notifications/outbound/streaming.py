"""An answer whose body is read while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp

from .body import pieces
from .call import Call
from .exchange import Exchange


class Stream:
    """The head of an answer, and its body in pieces: ``async for piece in answer``, once.

    ``status``, ``url``, ``headers``, ``attempts`` and ``history`` are those of ``Response``.
    The pieces are bytes, unpacked, of any size from 1 to about 256 KiB.
    ``elapsed`` is the seconds since the first request was sent, without waiting, up to the end of the block.
    """

    def __init__(self, call: Call, run: Exchange) -> None:
        head = run.response()
        self.status: int = head.status
        self.url: str = head.url
        self.headers: Mapping[str, str] = head.headers
        self.attempts: int = head.attempts
        self.history = head.history
        self.raise_for_status = head.raise_for_status
        self._call = call
        self._run = run
        self._begun = False
        call.stage = "caller"

    @property
    def elapsed(self) -> float:
        return self._call.elapsed + self._run.running

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._begun:
            raise RuntimeError(
                "The body of an answer can be read once. Keep the pieces if you need them again."
            )
        self._begun = True
        call, run = self._call, self._run
        try:
            call.stage = "body"
            async for piece in pieces(run.answer, call.max_bytes, call.place):
                call.received += len(piece)
                call.stage = "caller"
                yield piece
                call.stage = "body"
            call.stage = "caller"
        except (aiohttp.ClientError, asyncio.CancelledError) as exc:
            run.end(exc)
            if isinstance(exc, aiohttp.ClientError):
                raise call.error(exc) from exc
            raise

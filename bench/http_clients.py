"""The clients that ``bench.outbound`` compares, each in its own process.

``python -m bench.http_clients NAME IN_FLIGHT SECONDS PORT`` prints requests, seconds and CPU seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bench.upstream import BODY

Call = Callable[[str], Awaitable[bytes | None]]


@asynccontextmanager
async def this_client(at_once: int, address: str) -> AsyncIterator[Call]:
    from django.conf import settings

    settings.configure(
        NOTIFICATIONS={
            "OUTBOUND_ALLOW": [address],
            "OUTBOUND_PER_HOST": at_once,
        }
    )
    from notifications import outbound

    async def call(url: str) -> bytes:
        return (await outbound.get(url)).body

    yield call


@asynccontextmanager
async def aiohttp(at_once: int, address: str) -> AsyncIterator[Call]:
    from aiohttp import ClientSession, TCPConnector

    async with ClientSession(connector=TCPConnector(limit=0)) as session:

        async def call(url: str) -> bytes:
            async with session.get(url) as answer:
                return await answer.read()

        yield call


@asynccontextmanager
async def httpx(at_once: int, address: str) -> AsyncIterator[Call]:
    from httpx import AsyncClient, Limits

    # The default number, all of them kept. With more connections httpx becomes far slower.
    limits = Limits(max_connections=100, max_keepalive_connections=100)
    async with AsyncClient(limits=limits, timeout=60) as client:

        async def call(url: str) -> bytes:
            return (await client.get(url)).content

        yield call


@asynccontextmanager
async def niquests(at_once: int, address: str) -> AsyncIterator[Call]:
    from niquests import AsyncSession

    async with AsyncSession(pool_connections=4, pool_maxsize=at_once) as session:

        async def call(url: str) -> bytes | None:
            return (await session.get(url)).content

        yield call


CLIENTS = {"bare aiohttp": aiohttp, "this app": this_client, "niquests": niquests, "httpx": httpx}


async def measure(name: str, at_once: int, seconds: float, port: int) -> dict[str, float]:
    """Call as often as possible for some CPU seconds, at least three times each, after one to open the connections."""
    done, ends = 0, float("inf")
    ready = asyncio.Barrier(at_once)
    before: tuple[float, float] = (0.0, 0.0)

    async def call_repeatedly(call: Call, number: int) -> None:
        nonlocal done, ends, before
        assert await call(f"http://127.0.0.1:{port}/prices?day=0") == BODY
        if await ready.wait() == at_once - 1:
            before = time.perf_counter(), time.process_time()
            ends = before[1] + seconds
        while time.process_time() < ends or done < 3 * at_once:
            number = (number + 1) % 1000
            assert await call(f"http://127.0.0.1:{port}/prices?day={number}") == BODY
            done += 1

    async with CLIENTS[name](at_once, f"127.0.0.1:{port}") as call:
        await asyncio.gather(*[call_repeatedly(call, number) for number in range(at_once)])
    return {
        "requests": done,
        "seconds": time.perf_counter() - before[0],
        "cpu": time.process_time() - before[1],
    }


if __name__ == "__main__":
    _, name, at_once, seconds, port = sys.argv
    print(json.dumps(asyncio.run(measure(name, int(at_once), float(seconds), int(port)))))

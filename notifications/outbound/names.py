"""Looking up names: on daemon threads of our own, and refusing an answer with one bad address in it.

The event loop's default executor is not used: a dead name server would block everybody else's work there,
and ``asyncio.run`` waits for its threads at the end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from .addresses import reserved
from .guard import ForbiddenAddress

THREADS = 16


def lookup(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of ``host``, best first; raise socket.gaierror if there are none.

    Not limited to the families this machine has: the check must see the whole answer.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Resolver(AbstractResolver):
    """Looks names up for aiohttp, whatever they stand for."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await _threads.run(lambda: lookup(host, port))
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close: the threads belong to the process."""


class PublicResolver(Resolver):
    """Looks names up, and raises ForbiddenAddress if one of the addresses is not public."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await super().resolve(host, port, family)
        for result in results:
            if why := reserved(result["host"]):
                raise ForbiddenAddress(why)
        return results


class _Threads:
    """A few daemon threads, started when they are needed, that answer to any event loop."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    async def run(self, work: Callable[[], list[str]]) -> list[str]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._started < THREADS:
                self._started += 1
                threading.Thread(target=self._serve, name="outbound-names", daemon=True).start()
            self._work.put((work, future))
        return await future

    def _serve(self) -> None:
        while True:
            work, future = self._work.get()
            if not future.cancelled():
                self._answer(work, future)
            del work, future  # or an idle thread would keep the event loop alive
            with self._lock:
                self._idle += self._work.empty()

    def _answer(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        settle: Callable[[Any], None]
        try:
            result = work()
        except Exception as exc:
            settle, result = future.set_exception, exc
        else:
            settle = future.set_result
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            future.get_loop().call_soon_threadsafe(_settle, future, settle, result)


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], result: Any) -> None:
    if not future.done():
        settle(result)


_threads = _Threads()


def _forget_threads() -> None:
    global _threads
    _threads = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)  # threads do not survive a fork

"""Resolve host names on daemon threads, and refuse an answer that contains an address that is not public.

The event loop's default executor is not used: lookups at a dead name server would block all other work there, and
``asyncio.run`` waits for its threads at the end.

``getaddrinfo`` cannot be cancelled, and takes a minute where a name server is dead. So that dead names do not delay
others, a lookup that hangs no longer counts as active, a name is resolved only once at a time for all calls, and the
names below one domain, which have the same name servers, take turns and get a limited number of threads.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from aiohttp.abc import AbstractResolver, ResolveResult

from .addresses import describe_reserved
from .guard import ForbiddenAddress

MAX_ACTIVE_LOOKUPS = 16  # threads, without those that hang
HANGS_AFTER_SECONDS = 1.0
MAX_LOOKUPS = 128  # threads, with those that hang
MAX_LOOKUPS_PER_DOMAIN = 8
CACHE_SECONDS = 10.0
MAX_CACHED_NAMES = 1000


def resolve_name(host: str, port: int) -> list[str]:
    """Return the addresses of ``host``, best first; raise socket.gaierror if there are none.

    Not limited to the address families of this machine: the guard must check the complete answer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as exc:
        # Raised by Python's IDNA codec. aiohttp translates only OSError.
        raise socket.gaierror(socket.EAI_NONAME, "The name cannot be encoded") from exc
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Resolver(AbstractResolver):
    """Resolve names for aiohttp, without checking the addresses.

    Its cache replaces aiohttp's, where a lookup continues, and keeps its place in the queue, after all calls that
    wanted it have ended.
    """

    def __init__(self) -> None:
        self._cache: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        expires_at, addresses = self._cache.get(host, (0.0, []))
        if expires_at <= monotonic():
            addresses = await lookups.run(host, port)
            self._cache[host] = monotonic() + CACHE_SECONDS, addresses
            self._cache.move_to_end(host)
            while len(self._cache) > MAX_CACHED_NAMES:
                self._cache.popitem(last=False)
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
        """Do nothing: the threads belong to the process."""


class PublicResolver(Resolver):
    """Resolve names, and raise ForbiddenAddress if one of the addresses is not public."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await super().resolve(host, port, family)
        for result in results:
            if reason := describe_reserved(result["host"]):
                raise ForbiddenAddress(reason)
        return results


class _Lookup:
    """A name to resolve, and the futures of the calls that wait for it."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.domain = parent_domain(host)
        self.started_at = 0.0
        self.futures: set[asyncio.Future[list[str]]] = set()


class Lookups:
    """The lookups of all event loops of the process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all lookups: their threads do not survive a fork."""
        self._lock = threading.Lock()
        self._by_host: dict[str, _Lookup] = {}
        # By domain, in the order of their turns.
        self._waiting: OrderedDict[str, deque[_Lookup]] = OrderedDict()
        self._running: set[_Lookup] = set()
        self._running_by_domain: Counter[str] = Counter()

    async def run(self, host: str, port: int) -> list[str]:
        """Return the addresses of ``host``; raise the errors of ``resolve_name``."""
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        with self._lock:
            lookup = self._by_host.get(host)
            if lookup is None:
                lookup = self._by_host[host] = _Lookup(host, port)
                self._waiting.setdefault(lookup.domain, deque()).append(lookup)
            lookup.futures.add(future)
            self._start_threads()
        try:
            while not future.done():
                await asyncio.wait([future], timeout=HANGS_AFTER_SECONDS)
                with self._lock:
                    self._start_threads()  # Others may hang now, and count no longer.
            return future.result()
        finally:
            self._withdraw(lookup, future)
            if not future.cancel():
                future.exception()  # Retrieved, or asyncio would log an error that came as the call was cancelled.

    def state(self) -> tuple[int, int]:
        """Return the number of names that are being resolved, and of those that wait for it."""
        with self._lock:
            return len(self._running), sum(map(len, self._waiting.values()))

    def _start_threads(self) -> None:
        """Start a thread for each waiting lookup that the limits allow. The lock must be held."""
        if not self._waiting:
            return
        now = monotonic()
        active = sum(now - lookup.started_at < HANGS_AFTER_SECONDS for lookup in self._running)
        while active < MAX_ACTIVE_LOOKUPS and (lookup := self._pop_waiting()) is not None:
            active += 1
            thread = threading.Thread(
                target=self._run_lookups, args=(lookup,), name="outbound-names", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:  # The process may start no more threads now.
                self._discard(lookup)
                _set_results(lookup.futures, socket.gaierror(socket.EAI_AGAIN, str(exc)))

    def _pop_waiting(self) -> _Lookup | None:
        """Take the next lookup that the limits allow; domains take turns. The lock must be held."""
        if len(self._running) >= MAX_LOOKUPS:
            return None
        for domain, queue in self._waiting.items():
            if self._running_by_domain[domain] < MAX_LOOKUPS_PER_DOMAIN:
                lookup = queue.popleft()
                self._waiting.move_to_end(domain)
                if not queue:
                    del self._waiting[domain]
                lookup.started_at = monotonic()
                self._running.add(lookup)
                self._running_by_domain[domain] += 1
                return lookup
        return None

    def _run_lookups(self, lookup: _Lookup | None) -> None:
        """Run a lookup, and then those that wait, on this thread."""
        while lookup is not None:
            result: list[str] | Exception
            try:
                result = resolve_name(lookup.host, lookup.port)
            except Exception as exc:
                result = exc
            with self._lock:
                self._discard(lookup)
                futures = list(lookup.futures)
                lookup = self._pop_waiting()
            _set_results(futures, result)
            del result, futures  # They would keep an event loop alive during the next lookup.

    def _discard(self, lookup: _Lookup) -> None:
        if lookup not in self._running:
            return  # from before a reset
        self._running.discard(lookup)
        self._by_host.pop(lookup.host, None)
        self._running_by_domain[lookup.domain] -= 1
        if not self._running_by_domain[lookup.domain]:
            del self._running_by_domain[lookup.domain]

    def _withdraw(self, lookup: _Lookup, future: asyncio.Future[list[str]]) -> None:
        """Remove a call's future, and the lookup too if it has not begun and no call waits for it any more."""
        with self._lock:
            lookup.futures.discard(future)
            queue = self._waiting.get(lookup.domain)
            if queue and lookup in queue and not lookup.futures:
                del self._by_host[lookup.host]
                queue.remove(lookup)
                if not queue:
                    del self._waiting[lookup.domain]


def parent_domain(host: str) -> str:
    """Return the domain that a name is below, guessed from its text: two labels, or three as in ``a.co.uk``."""
    labels = host.rsplit(".", 3)
    has_two_part_suffix = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if has_two_part_suffix else -2 :])


def _set_results(futures: Iterable[asyncio.Future[list[str]]], result: list[str] | Exception) -> None:
    for future in futures:
        with suppress(RuntimeError):  # The future's loop has been closed.
            future.get_loop().call_soon_threadsafe(_set_result, future, result)


def _set_result(future: asyncio.Future[list[str]], result: list[str] | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


lookups = Lookups()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lookups.reset)

"""Looking up names: on daemon threads of our own, and refusing an answer with one bad address in it.

The event loop's default executor is not used: a dead name server would block everybody else's work there,
and ``asyncio.run`` waits for its threads at the end.

The system's lookup cannot be cancelled, and takes a minute where a name server is dead. So that dead names hold up no
others, one that has hung does not count among those at work any more, a name is looked up once at a time whoever
asks for it, and the names below one domain, which all have the same servers, get a few threads and their turns.
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

from .addresses import reserved
from .guard import ForbiddenAddress

THREADS = 16  # lookups at a time, without those that have hung
MAX_HUNG_THREADS = 1.0  # seconds
MAX_LOOKUPS = 128  # lookups at a time, with those that have hung
A_DOMAIN = 8  # of them below one domain
CACHE_SECONDS = 10.0  # seconds that a resolver knows an answer
MAX_CACHED_NAMES = 1000


def lookup(host: str, port: int) -> list[str]:
    """Return the addresses of ``host`` that the system finds, best first; raise socket.gaierror if there are none.

    Not limited to the families this machine has: the check must see the whole answer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as exc:
        # Python's IDNA codec refuses the name before the system gets it. aiohttp wraps an OSError only.
        raise socket.gaierror(socket.EAI_NONAME, "The name cannot be encoded") from exc
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Resolver(AbstractResolver):
    """Looks names up for aiohttp, whatever they stand for. Instead of its cache, under which a lookup goes on, and
    stays in the queue, after the calls that have asked for it are over."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        until, addresses = self._kept.get(host, (0.0, []))
        if until <= monotonic():
            addresses = await lookups.run(host, port)
            self._kept[host] = monotonic() + CACHE_SECONDS, addresses
            self._kept.move_to_end(host)
            while len(self._kept) > MAX_CACHED_NAMES:
                self._kept.popitem(last=False)
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


class _Lookup:
    """A name that is asked for, and everybody who waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.domain = domain(host)
        self.started = 0.0
        self.futures: set[asyncio.Future[list[str]]] = set()


class Lookups:
    """The lookups of the process, from all its event loops."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: threads do not survive a fork."""
        self._lock = threading.Lock()
        self._known: dict[str, _Lookup] = {}
        self._waiting: OrderedDict[str, deque[_Lookup]] = OrderedDict()
        self._running: set[_Lookup] = set()
        self._below: Counter[str] = Counter()

    async def run(self, host: str, port: int) -> list[str]:
        """Return the addresses of ``host``. Raises what ``lookup`` raises."""
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        with self._lock:
            sought = self._known.get(host)
            if sought is None:
                sought = self._known[host] = _Lookup(host, port)
                self._waiting.setdefault(sought.domain, deque()).append(sought)
            sought.futures.add(future)
            self._start()
        try:
            while not future.done():
                await asyncio.wait([future], timeout=MAX_HUNG_THREADS)
                with self._lock:
                    self._start()  # others may have hung meanwhile
            return future.result()
        finally:
            self._leave(sought, future)
            if not future.cancel():
                future.exception()  # it came as the call was given up, and is no news for the log

    def state(self) -> tuple[int, int]:
        """Return how many names are being looked up, and how many wait for that."""
        with self._lock:
            return len(self._running), sum(map(len, self._waiting.values()))

    def _start(self) -> None:
        """Start threads for what waits, as far as they go. With the lock."""
        if not self._waiting:
            return
        now = monotonic()
        at_work = sum(now - one.started < MAX_HUNG_THREADS for one in self._running)
        while at_work < THREADS and (sought := self._next()) is not None:
            at_work += 1
            thread = threading.Thread(target=self._serve, args=(sought,), name="outbound-names", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:  # the process may have no more of them now
                self._forget(sought)
                _tell(sought.futures, socket.gaierror(socket.EAI_AGAIN, str(exc)))

    def _next(self) -> _Lookup | None:
        """Take the next one that may begin; domains take turns. With the lock."""
        if len(self._running) >= MAX_LOOKUPS:
            return None
        for name, queue in self._waiting.items():
            if self._below[name] < A_DOMAIN:
                sought = queue.popleft()
                self._waiting.move_to_end(name)
                if not queue:
                    del self._waiting[name]
                sought.started = monotonic()
                self._running.add(sought)
                self._below[name] += 1
                return sought
        return None

    def _serve(self, sought: _Lookup | None) -> None:
        while sought is not None:
            answer: list[str] | Exception
            try:
                answer = lookup(sought.host, sought.port)
            except Exception as exc:
                answer = exc
            with self._lock:
                self._forget(sought)
                futures = list(sought.futures)
                sought = self._next()
            _tell(futures, answer)
            del answer, futures  # or a thread that looks up the next name keeps an event loop alive

    def _forget(self, sought: _Lookup) -> None:
        if sought not in self._running:
            return  # from before a reset
        self._running.discard(sought)
        self._known.pop(sought.host, None)
        self._below[sought.domain] -= 1
        if not self._below[sought.domain]:
            del self._below[sought.domain]

    def _leave(self, sought: _Lookup, future: asyncio.Future[list[str]]) -> None:
        """Nobody waits with this future any more; a lookup that has not begun is not needed without one."""
        with self._lock:
            sought.futures.discard(future)
            queue = self._waiting.get(sought.domain)
            if queue and sought in queue and not sought.futures:
                del self._known[sought.host]
                queue.remove(sought)
                if not queue:
                    del self._waiting[sought.domain]


def domain(host: str) -> str:
    """Return the domain that a name is below, as far as its text tells: its last two labels, or three as in a.co.uk."""
    labels = host.rsplit(".", 3)
    many = 3 if len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3 else 2
    return ".".join(labels[-many:])


def _tell(futures: Iterable[asyncio.Future[list[str]]], answer: list[str] | Exception) -> None:
    for future in futures:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            future.get_loop().call_soon_threadsafe(_settle, future, answer)


def _settle(future: asyncio.Future[list[str]], answer: list[str] | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


lookups = Lookups()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lookups.reset)

"""Resolve names on threads of the process: ``getaddrinfo`` cannot be cancelled, and takes a minute at a dead server."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import Future
from functools import lru_cache

from notifications.db.threads import NoThread, start_thread

MAX_THREADS = 128
MAX_THREADS_PER_DOMAIN = (
    8  # Names below one domain have the same name servers, and can be invented in any number.
)
POLL_INTERVAL_SECONDS = 0.05  # of a call that waits for a thread


def resolve_name(host: str) -> list[str]:
    """Return the addresses of ``host``, best first and of all families; raise socket.gaierror if there are none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Lookups:
    """The lookups of all event loops of the process: ``running`` by name, and the names of the ``waiting`` calls."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all lookups: their threads do not survive a fork."""
        self._lock = threading.Lock()
        self.running: dict[str, Future[list[str]]] = {}
        self.waiting: list[str] = []

    async def run(self, host: str) -> list[str]:
        """Return the addresses of ``host``; raise the errors of ``resolve_name``."""
        self.waiting.append(host)
        try:
            while (lookup := self._start(host)) is None:  # noqa: ASYNC110  # Other threads and loops change it.
                await asyncio.sleep(POLL_INTERVAL_SECONDS)
        finally:
            self.waiting.remove(host)
        return await asyncio.wrap_future(lookup)

    def _start(self, host: str) -> Future[list[str]] | None:
        """Return the lookup of ``host``, started if none is running; None if the limits do not allow it now."""
        with self._lock:
            if host in self.running:
                return self.running[host]
            of_domain = sum(parent_domain(name) == parent_domain(host) for name in self.running)
            if of_domain >= MAX_THREADS_PER_DOMAIN or len(self.running) >= MAX_THREADS:
                return None
            lookup: Future[list[str]] = Future()
            lookup.set_running_or_notify_cancel()  # A call that is cancelled does not cancel it for others.
            try:
                start_thread(self._resolve, "notifications-resolver", host, lookup)
            except NoThread as exc:
                raise socket.gaierror(socket.EAI_AGAIN, str(exc)) from exc
            self.running[host] = lookup
            return lookup

    def _resolve(self, host: str, lookup: Future[list[str]]) -> None:
        try:
            addresses = resolve_name(host)
        except Exception as exc:
            self._forget(host)
            lookup.set_exception(exc)
        else:
            self._forget(host)
            lookup.set_result(addresses)

    def _forget(self, host: str) -> None:
        with self._lock:
            self.running.pop(host, None)


@lru_cache(maxsize=1024)
def parent_domain(host: str) -> str:
    """Return the domain that a name is below, guessed from its text: two labels, or three as in ``a.co.uk``."""
    labels = host.rsplit(".", 3)
    has_two_part_suffix = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if has_two_part_suffix else -2 :])


lookups = Lookups()
os.register_at_fork(after_in_child=lookups.reset)

"""A few threads of the hub's own for questions to the database.

Never the thread that ``sync_to_async`` shares: there a slow view or a job's query would hold up every push.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from django.db import connections

from notifications.connection_deadlines import limit_this_thread

#: Seconds after which an idle thread closes its connections.
IDLE = 5.0
#: Seconds that a connection is used at most: a replaced file or a moved server is noticed.
OLD = 30.0
#: Seconds that the end waits for the threads, all together.
PATIENCE = 2.0


class Pool:
    """``await pool.run(work, …)`` runs work in one of ``size`` daemon threads, which start as they are needed."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._work: SimpleQueue = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def run(self, work: Callable[..., Any], *args: Any) -> asyncio.Future:
        """Return a future of the running loop with what ``work(*args)`` returns."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._idle.acquire(blocking=False) and len(self._threads) < self.size:
            self._start_thread()
        self._work.put((loop, future, work, args))
        return future

    def close(self) -> list[threading.Thread]:
        """End the threads, which close their connections, once the work they were given is done. Returns them.

        Later work is done by new threads: a request may still be answered while the server stops.
        """
        for _ in self._threads:
            self._work.put(None)
        ending, self._threads = self._threads, []
        self._work, self._idle = SimpleQueue(), threading.Semaphore(0)
        return ending

    def _start_thread(self) -> None:
        name = f"notifications-{self.name}-{len(self._threads) + 1}"
        # A daemon: a question that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._serve, args=(self._work, self._idle), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, work: SimpleQueue, idle: threading.Semaphore) -> None:
        limit_this_thread()
        opened = 0.0
        while True:
            try:
                asked = work.get(timeout=IDLE)
            except Empty:
                _close_connections()
                asked = work.get()
            if asked is None:
                _close_connections()
                return
            if not _open() or time.monotonic() - opened > OLD:
                _close_connections()
                opened = time.monotonic()
            self._answer(*asked)
            idle.release()

    def _answer(self, loop, future, work, args) -> None:
        try:
            answer, error = work(*args), None
        except Exception as exc:  # whoever awaits the future gets it
            answer, error = None, exc
            _close_connections()
        _give_back()
        # The loop may have been closed meanwhile: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, future, answer, error)


def _settle(future: asyncio.Future, answer: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(answer)


def _open() -> list:
    return [db for db in connections.all(initialized_only=True) if db.connection is not None]


def _close_connections() -> None:
    for db in _open():
        with contextlib.suppress(Exception):  # it is broken already
            db.close()


def _give_back() -> None:
    """Return connections that were lent by a pool of Django's: an idle thread must not keep what a view waits for."""
    for db in _open():
        if db.settings_dict["OPTIONS"].get("pool"):
            db.close()

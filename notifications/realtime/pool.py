"""A few threads of the hub's own for questions to the database.

Never the thread that ``sync_to_async`` shares: there a slow view or a job's query would hold up every push.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from notifications.db.deadlines import limit_this_thread
from notifications.db.threads import DaemonExecutor

#: Seconds that the end waits for the threads, all together.
SHUTDOWN_TIMEOUT_SECONDS = 2.0


class Pool:
    """``await pool.run(work, …)`` runs work in one of ``size`` daemon threads, which start as they are needed."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._threads = self._executor()

    def run(self, work: Callable[..., Any], *args: Any) -> asyncio.Future:
        """Return a future of the running loop with what ``work(*args)`` returns or raises.

        If no thread can be started the future fails with ``NoThread``. Nothing is raised here, so that what a caller
        has marked as being under way ends, in every case, with the future.
        """
        future = asyncio.get_running_loop().create_future()
        try:
            call = self._threads.submit(_with_deadlines, work, *args)
        except RuntimeError as exc:
            future.set_exception(exc)
        else:
            call.add_done_callback(partial(_answer, future))
        return future

    def close(self) -> list[threading.Thread]:
        """End the threads, which close their connections, once the work they were given is done. Returns them.

        Later work is done by new threads: a request may still be answered while the server stops.
        """
        ending, self._threads = self._threads, self._executor()
        return ending.end()

    def _executor(self) -> DaemonExecutor:
        return DaemonExecutor(self.size, f"notifications-{self.name}", keep_connections=True)


def _with_deadlines(work: Callable[..., Any], *args: Any) -> Any:
    limit_this_thread()
    return work(*args)


def _answer(future: asyncio.Future, call: Future[Any]) -> None:
    # The loop may have been closed meanwhile: nobody waits any more.
    with contextlib.suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(_settle, future, call)


def _settle(future: asyncio.Future, call: Future[Any]) -> None:
    if future.cancelled():
        return
    error = call.exception()
    if error is None:
        future.set_result(call.result())
    elif isinstance(error, Exception):
        future.set_exception(error)
    else:  # in the loop it would end the server
        future.set_exception(RuntimeError(f"It raised {error!r}."))

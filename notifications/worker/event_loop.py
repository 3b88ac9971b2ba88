"""The event loop of workers that share their process with other work: a server, or an engine."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from notifications.db.thread_connections import close_connections
from notifications.db.threads import NoThread, start_thread

T = TypeVar("T")

logger = logging.getLogger("notifications.jobs")


class ProcessLoop:
    """An event loop on a daemon thread, on which one worker runs after another until ``stop()``.

    Clients that tasks keep at module level, such as a session of aiohttp, belong to the loop on which they were made.
    On another one they fail with "Event loop is closed".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs from the first call on. Raises ``NoThread``, and OSError without descriptors."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                # Not on the thread: the error would not reach the caller.
                runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
                self._loop = runner.get_loop()
                try:
                    self._thread = start_thread(self._run, "notifications-worker", runner)
                except NoThread:
                    runner.close()
                    raise
            return self._loop

    def submit(self, function: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine function on the loop, from any other thread. Raises ``NoThread``, and then does not."""
        loop = self.start()
        # Nothing of the caller's context, which may be that of another job, is for what runs there.
        return contextvars.Context().run(asyncio.run_coroutine_threadsafe, function(), loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, from any thread; not at all before ``start()`` and after ``stop()``."""
        if self._thread and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def stop(self, seconds: float) -> None:
        """Cancel what runs on the loop and close it, and wait for that. A later ``start()`` makes another one."""
        if self._thread:
            self.call(self._loop.stop)
            self._thread.join(seconds)

    def _run(self, runner: asyncio.Runner) -> None:
        try:
            with runner:
                while True:
                    try:
                        return runner.get_loop().run_forever()
                    except (
                        BaseException
                    ):  # SystemExit of a callback, or out of memory: nothing would start it again
                        logger.exception("An error left the event loop of jobs, which goes on")
        finally:
            close_connections()  # Django refuses it while the loop runs


#: That of this process. A fork has none of the threads of its parent.
process_loop = ProcessLoop()
os.register_at_fork(after_in_child=lambda: process_loop.__init__())  # type: ignore[misc]

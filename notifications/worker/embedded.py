"""The worker inside a server process: on a thread with its own event loop, started with the ASGI application."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from notifications.worker.event_loop import process_loop
from notifications.worker.forks import is_forked_by_task, prepare_forks
from notifications.worker.loops import run_to_end, wait_for_event
from notifications.worker.worker import JobWorker

#: Seconds that the exit of the process waits until running jobs are released.
EXIT_TIMEOUT_SECONDS = 5.0
#: Seconds before the first query. Servers that fork do so right after they have loaded the application, and a fork in
#: the middle of a call into SQLite would leave its locks held in the child for ever.
START_DELAY_SECONDS = 0.3
#: Seconds until another worker follows one that an error has ended.
RESTART_DELAY_SECONDS = 5.0

_lock = threading.Lock()
#: The id of the process that has started a worker: a forked child inherits these variables, but not the thread.
_process: int | None = None
_worker: JobWorker
_is_exiting: asyncio.Event
#: Done when the worker has ended, and no other one follows.
_end: futures.Future[None]


def start(listen: Callable[..., Any] | None = None) -> None:
    """Start the embedded worker, once in each process; a forked child starts its own. Raises ``NoThread``."""
    global _process, _worker, _is_exiting, _end
    with _lock:
        if _process == os.getpid():
            return
        if _process is None:
            prepare_forks()
            os.register_at_fork(after_in_child=lambda: _after_fork(listen))
            atexit.register(stop)
        _is_exiting = asyncio.Event()
        _worker = JobWorker(listen=listen)
        _end = process_loop.submit(lambda: _run(listen))
        _process = os.getpid()


def stop() -> None:
    """Stop the worker of this process, if there is one, and release its running jobs."""
    if _process == os.getpid():
        process_loop.call(_is_exiting.set)
        _worker.stop(grace=0)
        futures.wait([_end], EXIT_TIMEOUT_SECONDS)
        process_loop.stop(EXIT_TIMEOUT_SECONDS)


def _after_fork(listen: Callable[..., Any] | None) -> None:
    global _lock
    _lock = threading.Lock()  # the old one may be held by a thread that the child does not have
    if not is_forked_by_task():  # which is no server
        start(listen)


async def _run(listen: Callable[..., Any] | None) -> None:
    delay = START_DELAY_SECONDS

    async def run_worker() -> None:
        global _worker
        nonlocal delay
        await wait_for_event(_is_exiting, delay)
        if _is_exiting.is_set():
            return
        delay, has_ended = RESTART_DELAY_SECONDS, False
        try:
            await _worker.run()
            has_ended = True
        finally:
            if not has_ended:  # the server goes on, and jobs must too
                _worker = JobWorker(listen=listen)

    await run_to_end(run_worker, _is_exiting.is_set)

"""The worker inside a server process: a thread with its own event loop, started with the ASGI application."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from django.db import connections

from notifications.db.threads import start_thread
from notifications.worker.forks import is_forked_by_task, prepare_forks
from notifications.worker.worker import JobWorker

logger = logging.getLogger("notifications.jobs")

#: Seconds that the exit of the process waits until running jobs are released.
EXIT_TIMEOUT_SECONDS = 5.0
#: Seconds until a new worker starts after one failed.
RESTART_SECONDS = 5.0
#: Seconds before the first query. Servers that fork do so right after they have loaded the application, and a fork in
#: the middle of a call into SQLite would leave its locks held in the child for ever.
START_DELAY_SECONDS = 0.3

_lock = threading.Lock()
#: The id of the process that has started a worker: a forked child inherits these variables, but not the thread.
_process: int | None = None
_worker: Any = None
_thread: threading.Thread | None = None
_is_exiting = threading.Event()


def start(listen: Callable[..., Any] | None = None) -> None:
    """Start the embedded worker, once in each process; a forked child starts its own. Raises ``NoThread``."""
    global _process, _worker, _thread, _is_exiting
    with _lock:
        if _process == os.getpid():
            return
        if _process is None:
            prepare_forks()
            os.register_at_fork(after_in_child=lambda: _after_fork(listen))
            atexit.register(stop)
        _is_exiting = threading.Event()
        _worker = JobWorker(listen=listen)
        _thread = start_thread(_run, "notifications-worker", listen)
        _process = os.getpid()


def stop() -> None:
    """Stop the worker of this process, if there is one, and release its running jobs."""
    if _process == os.getpid() and _thread and _thread.is_alive():
        _is_exiting.set()
        _worker.stop(grace=0)
        _thread.join(EXIT_TIMEOUT_SECONDS)


def _after_fork(listen: Callable[..., Any] | None) -> None:
    global _lock
    _lock = threading.Lock()  # the old one may be held by a thread that the child does not have
    if not is_forked_by_task():  # which is no server
        start(listen)


def _run(listen: Callable[..., Any] | None) -> None:
    global _worker
    if _is_exiting.wait(START_DELAY_SECONDS):
        return
    while True:
        try:
            asyncio.run(_worker.run())
            return
        except BaseException:  # the server goes on, and jobs must too
            logger.exception("The embedded worker failed, and is restarted in %g s", RESTART_SECONDS)
        finally:
            connections.close_all()
        if _is_exiting.wait(RESTART_SECONDS):
            return
        _worker = JobWorker(listen=listen)

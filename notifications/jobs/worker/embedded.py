"""The worker inside a server process: a thread with an event loop of its own, started when the application is made."""

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

logger = logging.getLogger("notifications.jobs")

#: Seconds that the end of the process waits for running jobs to be given back.
END = 5.0
#: Seconds until a worker that broke is followed by another one.
RESTART_SECONDS = 5.0
#: Seconds before a worker touches the database. Servers that fork do it right after they have loaded the application; a
#: fork in the middle of a call into SQLite would leave its locks held in the child for ever.
SETTLE = 0.3

_lock = threading.Lock()
_process: int | None = None
_worker: Any = None
_thread: threading.Thread | None = None
_ended = threading.Event()


def start(listen: Callable[..., Any] | None = None) -> None:
    """Start the embedded worker of this process, once; after a fork the child starts its own. Raises ``NoThread``."""
    global _process, _worker, _thread, _ended
    from notifications.jobs.worker.worker import Worker

    with _lock:
        if _process == os.getpid():
            return
        if _process is None:
            os.register_at_fork(after_in_child=lambda: _forked(listen))
            atexit.register(stop)
        _ended = threading.Event()
        _worker = Worker(listen=listen)
        _thread = start_thread(_run, "notifications-worker", listen)
        _process = os.getpid()


def stop() -> None:
    """Give the jobs that run here back to the queue and end the worker, if it was started in this process."""
    if _process == os.getpid() and _thread and _thread.is_alive():
        _ended.set()
        _worker.stop(grace=0)
        _thread.join(END)


def _forked(listen: Callable[..., Any] | None) -> None:
    global _lock
    from notifications.jobs.worker.execution import is_job

    _lock = threading.Lock()  # a thread that is not there any more may hold the old one
    if not is_job():  # a process that a task starts serves nobody
        start(listen)


def _run(listen: Callable[..., Any] | None) -> None:
    global _worker
    from notifications.jobs.worker.worker import Worker

    if _ended.wait(SETTLE):
        return
    while True:
        try:
            asyncio.run(_worker.run())
            return
        except BaseException:  # the thread's boundary: the server goes on, and so do its jobs
            logger.exception("The embedded worker broke. It begins again in %g s.", RESTART_SECONDS)
        finally:
            connections.close_all()
        if _ended.wait(RESTART_SECONDS):
            return
        _worker = Worker(listen=listen)

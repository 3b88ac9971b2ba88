"""Run jobs in Celery's worker processes."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import signals
from django.db import connections

from notifications.conf import settings
from notifications.contrib.celery import main_process
from notifications.contrib.celery.app import TASK_NAME
from notifications.contrib.engines import process, wakeups
from notifications.worker import start_thread

logger = logging.getLogger("notifications.jobs")

#: Pools that replace threads by greenlets. Database connections and event loops of the app need threads.
GREENLET_POOLS = ("eventlet", "gevent")

_is_connected = False
#: A pipe to which nothing is written. Only the main process of a Celery worker has its second end, which it closes when
#: it shuts down: those who read, in this process or its children, then read the end of the file.
_shutdown_pipe: tuple[int, int] | None = None
_main_pid = 0
_is_shutting_down = False


def connect(app: Any) -> None:
    """Register the task that runs jobs, and start and stop the worker of each of Celery's processes."""
    global _is_connected

    @app.task(name=TASK_NAME, ignore_result=True, acks_late=False, max_retries=0, typing=False)
    def wake(queue: str, backend: str) -> None:
        process.run_waiting(queue, backend=backend)

    if _is_connected:
        return
    _is_connected = True
    signals.worker_init.connect(_check_pool, weak=False)
    signals.worker_init.connect(_open_shutdown_pipe, weak=False)
    signals.worker_init.connect(main_process.prepare, weak=False)
    signals.worker_process_init.connect(_start_in_child_process, weak=False)
    signals.worker_ready.connect(_start_in_main_process, weak=False)
    signals.worker_ready.connect(main_process.start, weak=False)
    signals.worker_shutting_down.connect(_begin_shutdown, weak=False)
    signals.worker_process_shutdown.connect(_stop, weak=False)
    signals.worker_shutdown.connect(_stop, weak=False)
    signals.worker_shutdown.connect(main_process.stop, weak=False)


def _check_pool(sender: Any = None, **kwargs: Any) -> None:
    pool = getattr(sender, "pool_cls", "")
    name = pool if isinstance(pool, str) else pool.__module__
    if any(greenlets in name for greenlets in GREENLET_POOLS):
        raise SystemExit(  # Celery logs any other exception of a receiver, and goes on
            f"Jobs do not run on Celery's pool {name}. Start the worker with --pool prefork, threads or solo."
        )


def _start_in_child_process(**kwargs: Any) -> None:
    if os.getpid() == _main_pid:
        return  # the pool "solo" sends the signal of child processes in the main process
    if _is_shutting_down:  # this process replaces one that has ended meanwhile
        _stop()
        return
    if _shutdown_pipe:
        read_end, write_end = _shutdown_pipe
        os.close(write_end)
        start_thread(_stop_at_shutdown, "notifications-shutdown", read_end)
    process.configure(exits_when_stuck=True)


def _start_in_main_process(sender: Any = None, **kwargs: Any) -> None:
    if not _has_child_processes(sender):
        if _shutdown_pipe:
            start_thread(_stop_at_shutdown, "notifications-shutdown", _shutdown_pipe[0])
        process.configure(concurrency=sender.pool.limit or 1)
    _wake_for_waiting_jobs()


def _wake_for_waiting_jobs() -> None:
    """Have jobs begin that have waited while no worker was there."""
    try:
        wakeups.wake_for_waiting_jobs()  # Celery logs an error, and the duty does it later
    finally:
        connections.close_all()  # before a child process is forked


def _has_child_processes(consumer: Any) -> bool:
    return "prefork" in type(consumer.pool).__module__


def _open_shutdown_pipe(**kwargs: Any) -> None:
    """Before Celery forks its child processes."""
    global _shutdown_pipe, _main_pid
    _shutdown_pipe, _main_pid = os.pipe(), os.getpid()


def _begin_shutdown(**kwargs: Any) -> None:
    """Stop the worker of this process, or those of its children, within the grace period.

    At a warm shutdown Celery itself waits for running tasks, without a limit. Called in a signal handler, which must
    start no thread: it may have interrupted the start of another one.
    """
    global _is_shutting_down
    if _shutdown_pipe and not _is_shutting_down:
        os.close(_shutdown_pipe[1])
    _is_shutting_down = True


def _stop_at_shutdown(read_end: int) -> None:
    """Wait for the shutdown of the main process, or for its end."""
    os.read(read_end, 1)
    _stop()


def _stop(**kwargs: Any) -> None:
    process.stop(settings.GRACE)

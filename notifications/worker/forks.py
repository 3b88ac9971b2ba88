"""What processes that tasks fork inherit of a worker: handlers of signals, and connections and locks of the database.

Programs that tasks start by ``subprocess`` inherit neither: Python closes descriptors, and resets handlers.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from notifications.context import current_execution

logger = logging.getLogger("notifications.jobs")

#: The signals that stop a worker or a server, which a process that a task forks obeys as any other program.
STOP_SIGNALS: Mapping[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}

_is_prepared = False
#: The paths of tasks that have forked in this process.
_tasks: set[str] = set()


class _Fork(threading.local):
    """The fork of this thread."""

    is_by_task = False
    mask: set[int] | set[signal.Signals]


_fork = _Fork()


def prepare_forks() -> None:
    """Have the forks of tasks begin with the default handlers of signals, and log the first one of each task.

    A fork inherits the handlers of the worker or the server and, before Python 3.12, the pipe by which asyncio receives
    signals: SIGTERM for the child would stop the worker, or not end the child. Signals are blocked until it has reset
    the handlers.
    """
    global _is_prepared
    if not _is_prepared:
        _is_prepared = True
        os.register_at_fork(before=_before, after_in_parent=_unblock, after_in_child=_after_in_child)


def is_forked_by_task() -> bool:
    """Return whether this process was forked by a task, or by a thread that a task has started: it is no server."""
    return _fork.is_by_task


def _before() -> None:
    execution = current_execution()
    # Servers fork on their main thread. A pool of multiprocessing replaces its processes on a thread of its own.
    _fork.is_by_task = execution is not None or threading.current_thread() is not threading.main_thread()
    if not _fork.is_by_task:
        return
    if execution is not None and (path := execution.job.task_path) not in _tasks:
        _tasks.add(path)
        logger.warning(
            "A task forks its worker. A child that uses the database may wait for ever for a lock, or break a "
            'connection of the worker. Start processes by multiprocessing.get_context("spawn"): %s',
            path,
        )
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _unblock() -> None:
    if _fork.is_by_task:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _after_in_child() -> None:
    if _fork.is_by_task:
        signal.set_wakeup_fd(-1)
        for number, handler in STOP_SIGNALS.items():
            if callable(signal.getsignal(number)):  # else it is the default one, or ignored as by nohup
                signal.signal(number, handler)
        _unblock()

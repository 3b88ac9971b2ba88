"""The process of a Celery worker that records the observed tasks of its child processes (pool ``prefork``).

They send starts and ends through a pipe, and go on with the next task, without a thread or a connection to the
database for that. While threads of theirs recorded, tasks ran at 0.78 of Celery's own rate, now at 0.9 (two cores,
PostgreSQL). What they have sent is recorded also if they are killed.

The main process forks it before its children, and again if it was killed. It ends when all others have ended.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import stat
import threading
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

from celery import platforms
from django.db import connections

from notifications.contrib.celery.received_queue import ReceivedQueue
from notifications.contrib.celery.receiver import Receiver, exists
from notifications.contrib.celery.record_pipe import RecordPipe
from notifications.contrib.celery.recorder import (
    MAX_WAIT_SECONDS,
    RETRY_SECONDS,
    Recorder,
    log_unrecorded,
    recorder,
    replace_recorder,
)
from notifications.contrib.celery.worker import close_shutdown_pipe

logger = logging.getLogger("notifications.jobs")

#: Added to the niceness: tasks, and the main process that hands them out, come first.
NICENESS = 10
#: Seconds between two looks for children that have ended without having sent the end of their task.
LOOK_INTERVAL_SECONDS = 5.0
#: Signals of a shutdown also come to this process, from a terminal or a supervisor. It ends after those that it serves.
_IGNORED_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")

_pipe: RecordPipe | None = None
#: Whether this process is a child of the main process, which sends what is to be recorded.
_is_child = False
_process: RecordingProcess | None = None
#: Connections of the main process, in this one.
_inherited: list[Any] = []


class RecordingProcess:
    """The process, as the main process knows it. ``worker`` is the id of the row of this Celery worker."""

    def __init__(self, app: Any, hostname: str, worker: UUID) -> None:
        self._app, self._hostname, self._worker = app, hostname, worker
        self._main_pid = os.getpid()
        self._pid = 0
        #: Held while it is seen to have ended, and is started again.
        self._lock = threading.Lock()

    def start(self, *, is_again: bool = False) -> None:
        """Fork the process."""
        if pid := os.fork():
            self._pid = pid
            logger.info("Observed tasks are recorded by process %d", pid)
            return
        code = 1
        try:
            self._run(is_again)
            code = 0
        except BaseException:
            logger.exception("The process that records observed tasks has failed")
        finally:
            os._exit(code)

    def start_again_if_ended(self) -> None:
        """Fork the process again if it was killed. What was sent meanwhile waits in the pipe."""
        with self._lock:
            if self._has_ended():
                logger.error("The process that records observed tasks has ended. Starting it again.")
                self.start(is_again=True)

    def stop(self, seconds: float) -> None:
        """Wait, after all child processes have ended, until all is recorded, at most this long."""
        assert _pipe is not None
        self.start_again_if_ended()
        _pipe.close_writing()
        give_up_at = time.monotonic() + seconds
        while not self._has_ended() and time.monotonic() < give_up_at:
            time.sleep(0.01)

    def _has_ended(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # the project's code has waited for all child processes
            return not exists(self._pid)

    def _run(self, is_again: bool) -> None:
        global _is_child
        assert _pipe is not None
        _is_child = False
        for name in _IGNORED_SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        platforms.set_process_title(f"celeryd: {self._hostname}: recording")
        os.nice(NICENESS)
        _pipe.close_writing()
        if is_again:
            _replace_inherited(keep=_pipe.read_end)
        close_shutdown_pipe()
        _forget_connections(self._app)
        receiver = Receiver(self._app, self._worker)
        received = ReceivedQueue(_pipe, receiver)
        replace_recorder(Recorder(received))
        while not received.has_ended.is_set():
            recorder().start()  # again, if the thread has ended
            received.has_ended.wait(LOOK_INTERVAL_SECONDS)
            receiver.forget_ended_processes()
        recorder().call(lambda: None, wait=RETRY_SECONDS)
        receiver.wait(RETRY_SECONDS)
        recorder().drain(RETRY_SECONDS)


def start(worker: Any, id: UUID) -> None:
    """Start the process of a Celery worker whose tasks will run in child processes. Called before they are forked.

    If it cannot be forked, threads of the child processes record. ``id`` is that of the row of the worker.
    """
    global _pipe, _process
    pool = worker.pool_cls
    if "prefork" not in (pool if isinstance(pool, str) else pool.__module__) or not hasattr(os, "fork"):
        return
    try:
        _pipe = RecordPipe()
        _process = RecordingProcess(worker.app, worker.hostname, id)
        _process.start()
    except OSError as exc:
        logger.warning("Could not start the process that records observed tasks: %s", exc)
        _pipe = _process = None


def start_again_if_ended() -> None:
    """Start the process of this Celery worker again if it was killed. Called in its main process."""
    if _process:
        _process.start_again_if_ended()


def stop(seconds: float) -> None:
    """Wait until all that child processes have sent is recorded, at most this long. They have ended.

    Called in the main process.
    """
    if _process:
        _process.stop(seconds)


def is_used() -> bool:
    """Return whether the tasks of this process are recorded by the recording process."""
    return _is_child


def send(*message: Any) -> None:
    """Send a message for the receiver. Waits at most ``MAX_WAIT_SECONDS``, if the pipe is full, and raises nothing."""
    assert _pipe is not None
    error: object = "the pipe to the recording process is full"
    for _ in range(2):  # a time limit of the task may be raised here
        try:
            if _pipe.send(pickle.dumps(message, pickle.HIGHEST_PROTOCOL), MAX_WAIT_SECONDS):
                return
            break
        except Exception as exc:
            error = exc
    log_unrecorded(error)


def _replace_inherited(keep: int) -> None:
    """Close pipes and sockets of the main process: those to its children and its broker would stay open after it.

    Their numbers stay taken: objects that are collected close them once more.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        with suppress(OSError, ValueError):
            mode = os.fstat(file := int(name)).st_mode
            if file > 2 and file != keep and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                os.dup2(null, file)


def _forget_connections(app: Any) -> None:
    """Forget what the main process has opened to brokers and databases, without a word to them."""
    app._after_fork()
    for connection in connections.all(initialized_only=True):
        _inherited.append(connection.connection)  # collected, it would be closed
        connection.connection = None
        # Those of Django for PostgreSQL, whose threads this process does not have.
        getattr(connection, "_connection_pools", {}).clear()


def _after_fork() -> None:
    global _is_child
    _is_child = _pipe is not None
    if _pipe:
        _pipe.reset_lock()


os.register_at_fork(after_in_child=_after_fork)

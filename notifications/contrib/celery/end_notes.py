"""Notes of how tasks have ended, from the child processes of a Celery worker to its main process, through a pipe.

A child process records the ends of its tasks, some moments later. Without a result backend nothing else knows them if
it is killed before. What is in the pipe then outlives it, and the main process records it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from celery import states

from notifications.contrib.celery.record_queue import MAX_QUEUED_CALLS
from notifications.db.threads import start_thread
from notifications.jobs.outcomes import Outcome, error_type
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Bytes of a note: a pipe keeps those of several writers apart up to this length.
MAX_NOTE_BYTES = getattr(select, "PIPE_BUF", 512)
#: Bytes that a pipe is to hold, if the system allows that.
PIPE_BYTES = 1024 * 1024
#: Seconds between two reads. A read for each note would take the main process, which hands out all tasks, from that.
READ_INTERVAL_SECONDS = 0.1
#: Seconds for which the notes of a process are kept after its last one.
KEEP_SECONDS = 300.0

#: The pipe, in the main process and those that it has forked, and the process that reads it.
_pipe: tuple[int, int] | None = None
_main_pid = 0
#: The newest notes of each child process by the id of the task, and when the last one came (monotonic). One thread
#: adds to them, another one takes from them. Child processes never take the lock, which may be held at their fork.
_notes: dict[int, dict[str, dict[str, Any]]] = {}
_noted_at: dict[int, float] = {}
_lock = threading.Lock()


def open_pipe() -> None:
    """Open the pipe, before the main process forks its children."""
    global _pipe, _main_pid
    _pipe, _main_pid = os.pipe(), os.getpid()
    os.set_blocking(_pipe[1], False)
    with suppress(ImportError, AttributeError, OSError):  # not on Linux, or more than one user may have
        import fcntl

        fcntl.fcntl(_pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def start_reading() -> None:
    """Read the notes, on a thread of the main process."""
    if _pipe:
        start_thread(_read, "notifications-celery-ends", _pipe[0])


def note(id: str, outcome: Outcome) -> bool:
    """Send how a task has ended to the main process. Return False if that would not know it, or is this process."""
    if outcome.state == Job.State.SUCCEEDED:
        return note_success(id, outcome.result or "null")
    if error_type(outcome.error) == "task-failed" and _is_child():
        return _send(id, states.FAILURE, _describe(outcome.exception))
    return False


def note_success(id: str, result: str) -> bool:
    """Send the result of a task, as JSON, as ``note`` does."""
    return _send(id, states.SUCCESS, result)


def _is_child() -> bool:
    return _pipe is not None and os.getpid() != _main_pid


def _send(id: str, status: str, value: str) -> bool:
    if _pipe is None or not _is_child():
        return False
    line = json.dumps([os.getpid(), id, status, value]).encode() + b"\n"
    if len(line) > MAX_NOTE_BYTES:
        return False
    try:
        os.write(_pipe[1], line)
    except OSError:  # the pipe is full
        return False
    return True


def _describe(exception: BaseException | None) -> str:
    """Return the text of an exception of the project, whose ``__repr__()`` may raise anything."""
    try:
        return repr(exception)
    except Exception:
        return type(exception).__name__


def read_of_ended_processes() -> dict[int, dict[str, dict[str, Any]]]:
    """Return the notes of processes that have ended, by pid and task id: what a result backend would have.

    They are returned again until ``forget()``.
    """
    with _lock:
        for pid, noted_at in list(_noted_at.items()):
            if time.monotonic() - noted_at > KEEP_SECONDS:
                _notes.pop(pid, None)
                del _noted_at[pid]
        return {pid: dict(notes) for pid, notes in _notes.items() if _has_ended(pid)}


def forget(pid: int, ids: Iterable[str]) -> None:
    """Forget these notes of a process. More may have come since they were read."""
    with _lock:
        notes = _notes.get(pid, {})
        for id in ids:
            notes.pop(id, None)
        if not notes:
            _notes.pop(pid, None)
            _noted_at.pop(pid, None)


def _read(pipe: int) -> None:
    rest = b""
    while data := os.read(pipe, PIPE_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                _add(*json.loads(line))
            except Exception as exc:  # the thread must not end
                logger.warning("Could not read how a Celery task has ended: %r", exc)
        time.sleep(READ_INTERVAL_SECONDS)


def _add(pid: int, id: str, status: str, value: str) -> None:
    result = json.loads(value) if status == states.SUCCESS else value
    with _lock:
        notes = _notes.setdefault(pid, {})
        notes[id] = {"status": status, "result": result}
        _noted_at[pid] = time.monotonic()
        if len(notes) > MAX_QUEUED_CALLS:
            del notes[next(iter(notes))]


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False

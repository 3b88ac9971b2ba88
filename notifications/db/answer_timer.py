"""Give up connections to PostgreSQL whose server does not answer: one timer thread of each process shuts them down.

Neither libpq's options nor ``statement_timeout`` limit how long a client waits for a server that is stopped, or a
pooler that hangs, while the kernel of its machine acknowledges what is sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("notifications.database")

#: Seconds between two checks of the waits.
CHECK_INTERVAL_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class _Wait:
    """One wait of a thread for an answer to a connection of psycopg."""

    raw: Any
    seconds: float
    #: Checks that it has lasted for. Counted, because a process that was suspended finds its answers late.
    checks: int = 0
    is_given_up: bool = False


def call_within(seconds: float, raw: Any, wait: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what ``wait`` returns, which waits for the server of the connection ``raw``, at most ``seconds``.

    Closes the connection then, and raises ``psycopg.OperationalError``.
    """
    current = _Wait(raw, seconds)
    _waits.add(current)
    if _thread is None:
        _start()
    try:
        return wait(*args, **kwargs)
    except Exception as exc:
        if not current.is_given_up:
            raise
        raise _discard(current) from exc
    finally:
        # The caller may close the connection, and its descriptor may be used again, once the timer is done with it.
        with _lock:
            _waits.discard(current)


def _discard(wait: _Wait) -> Exception:
    from psycopg import OperationalError

    wait.raw.close()
    logger.warning(
        "Discarded a database connection that did not answer for %g s: thread %s",
        wait.seconds,
        threading.current_thread().name,
    )
    return OperationalError(f"The database did not answer for {wait.seconds:g} s.")


def _run() -> None:
    global _thread
    try:
        while True:
            time.sleep(CHECK_INTERVAL_SECONDS)
            _check_waits()
    finally:  # out of memory, for example: the next wait starts another thread
        _thread = None


def _check_waits() -> None:
    for wait in list(_waits):
        wait.checks += 1
        # The first check may come right after the wait has begun.
        if (wait.checks - 1) * CHECK_INTERVAL_SECONDS >= wait.seconds and not wait.is_given_up:
            with _lock:
                if wait in _waits:
                    _shut_down(wait)


def _shut_down(wait: _Wait) -> None:
    """Free the thread that waits: it reads the end of the connection."""
    # The connection may be broken already, or there is no descriptor: the next check tries again.
    with contextlib.suppress(Exception):
        number = wait.raw.fileno()
        with socket.socket(fileno=os.dup(number)) as connection:
            # Otherwise libpq has closed it meanwhile, and what was duplicated may be a file of another thread.
            if wait.raw.fileno() == number:
                wait.is_given_up = True
                connection.shutdown(socket.SHUT_RDWR)


def _start() -> None:
    global _thread
    with _lock:
        if _thread is None:
            thread = threading.Thread(target=_run, name="notifications-answer-timer", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be started: the next wait tries again
                thread.start()
                _thread = thread


def _reset() -> None:
    """Forget what belongs to this process: a child has no such thread, and shares the sockets of its parent."""
    global _lock, _thread
    _lock, _thread = threading.Lock(), None
    _waits.clear()


_lock = threading.Lock()
_thread: threading.Thread | None = None
_waits: set[_Wait] = set()
os.register_at_fork(after_in_child=_reset)

"""Time out database connections of the app's own threads on PostgreSQL.

After a failover with dropped packets, behind a firewall that dropped the connection, or with a pooler that hangs, a
client waits in ``recv()`` for 15 minutes by the defaults of the kernel, or for ever. The app's own threads discard such
a connection after ``ANSWER_SECONDS``, so that their next call opens a new one. Threads that run the project's code,
jobs and receivers, have no limit for answers; only lost packets are noticed. Connections of views stay as the project
has configured them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Generator, Iterator
from time import monotonic
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("notifications.database")

#: Seconds that PostgreSQL may take to answer. Longer than the 10 s for which a frozen process can hold a lock.
ANSWER_SECONDS = 15.0
#: libpq's options for connections of the app's own threads. Timeouts are in seconds, ``tcp_user_timeout``, for which
#: sent data may stay unacknowledged, in milliseconds.
OPTIONS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class _Thread(threading.local):
    """Whether connections of this thread have the options, and its limit in seconds for an answer (None: no limit)."""

    has_options = False
    seconds: float | None = None


_thread = _Thread()


def limit_this_thread(seconds: float | None = None) -> None:
    """Close connections to PostgreSQL that do not answer this thread within ``seconds`` (``ANSWER_SECONDS``).

    The call then raises ``django.db.OperationalError``. The thread must be the app's own, because all its connections
    are limited, whatever their alias.
    """
    set_options_of_this_thread()
    _thread.seconds = ANSWER_SECONDS if seconds is None else seconds


@contextlib.contextmanager
def limit_answers(seconds: float | None = None) -> Iterator[None]:
    """Limit the answers to a thread of the project inside this block, as ``limit_this_thread()`` does.

    The options of its connections stay.
    """
    before = _thread.seconds
    limit_this_thread(seconds)
    try:
        yield
    finally:
        _thread.seconds = before


def set_options_of_this_thread() -> None:
    """Set ``OPTIONS`` for the connections to all databases that this thread opens from now on."""
    if _thread.has_options:
        return
    for alias in connections:
        with contextlib.suppress(
            ImproperlyConfigured
        ):  # its driver is not installed, so the alias is not used
            set_options(connections[alias])
    _thread.has_options = True


def set_options(db: BaseDatabaseWrapper) -> None:
    """Set ``OPTIONS`` for the connections that ``db`` opens from now on. The project's own options take precedence.

    The connections of a pool of Django's are left as the project has configured them.
    """
    if db.vendor != "postgresql":
        return
    _limit_psycopg()
    options = db.settings_dict["OPTIONS"]
    if not options.get("pool"):
        # A copy, because all threads share the settings.
        db.settings_dict = {**db.settings_dict, "OPTIONS": {**OPTIONS, **options}}


@functools.cache
def _limit_psycopg() -> None:
    """Make psycopg apply the limit of the calling thread wherever a connection waits for the server.

    The class is patched, not an instance, because a pool of Django's checks connections before it hands them out.
    """
    try:
        from psycopg import Connection
    except ImportError:  # psycopg2 waits inside libpq, where only the options apply
        return
    wait = Connection.wait

    @functools.wraps(wait)
    def wait_within_limit(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if _thread.seconds is not None:
            gen = _within(_thread.seconds, self, gen)
        return wait(self, gen, *args, **kwargs)

    Connection.wait = wait_within_limit  # type: ignore[method-assign]


def _within(seconds: float, raw: Any, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Wrap a generator of psycopg's, which gets a false value while the socket is not ready, with a limit."""
    silent_since: float | None = None
    try:
        state = next(gen)
        while True:
            ready = yield state
            if ready:
                silent_since = None
            elif silent_since is None:
                silent_since = monotonic()
            elif monotonic() - silent_since > seconds:
                raise _discard(raw, seconds)
            state = gen.send(ready)
    except StopIteration as end:
        return end.value


def _discard(raw: Any, seconds: float) -> Exception:
    """Close a connection that did not answer, and return the error to raise."""
    from psycopg import OperationalError

    raw.close()
    logger.warning(
        "Discarded a database connection that did not answer for %g s: thread %s",
        seconds,
        threading.current_thread().name,
    )
    return OperationalError(f"The database did not answer for {seconds:g} s.")

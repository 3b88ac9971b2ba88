"""Time out database connections of the app's own threads on PostgreSQL.

After a failover with dropped packets, behind a firewall that dropped the connection, or with a pooler that hangs, a
client waits in ``recv()`` for 15 minutes by the defaults of the kernel, or for ever. The app's own threads discard such
a connection after ``ANSWER_SECONDS``, so that their next call opens a new one. Threads that run the project's code,
jobs and receivers, have no limit for answers; only lost packets are noticed. Connections of views stay as the project
has configured them.

Neither libpq's options nor ``statement_timeout`` limit how long a client waits for a server that is stopped, or a
pooler that hangs, while the kernel of its machine acknowledges what is sent. psycopg does, while it waits.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("notifications.database")

T = TypeVar("T")

#: Seconds that PostgreSQL may take to answer. Longer than the 10 s for which a frozen process can hold a lock.
ANSWER_SECONDS = 15.0
#: Seconds between two checks whether it has.
CHECK_INTERVAL_SECONDS = 0.1
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
    #: Whether the connections that it opens have the options.
    has_options = False
    #: Whether it is one of the app's own.
    is_own = False
    #: Its limit for an answer, in seconds. None: no limit.
    seconds: float | None = None


_thread = _Thread()


def limit_this_thread(seconds: float | None = None) -> None:
    """Close connections to PostgreSQL that do not answer this thread within ``seconds`` (``ANSWER_SECONDS``).

    The call then raises ``django.db.OperationalError``. The thread must be the app's own, because all its connections
    are limited, whatever their alias. They are not those of a pool of Django's, which jobs and views may use up, and
    are not tried by ``SELECT 1`` before each call, although the project has ``CONN_HEALTH_CHECKS``: that is a round
    trip before each job and each message, and what the app's own threads do is tried again after an error.
    """
    if not _thread.is_own:
        for db in usable_connections():
            options = {name: value for name, value in db.settings_dict["OPTIONS"].items() if name != "pool"}
            db.settings_dict = {**db.settings_dict, "OPTIONS": options, "CONN_HEALTH_CHECKS": False}
            set_options(db)
        _thread.has_options = _thread.is_own = True
    _thread.seconds = ANSWER_SECONDS if seconds is None else seconds


@contextlib.contextmanager
def limit_answers(seconds: float | None = None) -> Iterator[None]:
    """Limit the answers to a thread of the project inside this block, as ``limit_this_thread()`` does.

    Its connections, and their options, are those of the project.
    """
    before = _thread.seconds
    _thread.seconds = ANSWER_SECONDS if seconds is None else seconds
    for db in usable_connections():
        _limit(db)
    try:
        yield
    finally:
        _thread.seconds = before


def set_options_of_this_thread() -> None:
    """Set ``OPTIONS`` for the connections to all databases that this thread opens from now on."""
    if not _thread.has_options:
        for db in usable_connections():
            set_options(db)
        _thread.has_options = True


def usable_connections() -> Iterator[BaseDatabaseWrapper]:
    """Yield the connections of this thread whose driver is installed, opened or not."""
    for alias in connections:
        with contextlib.suppress(ImproperlyConfigured):  # its driver is not installed: the alias is not used
            yield connections[alias]


def set_options(db: BaseDatabaseWrapper) -> None:
    """Set ``OPTIONS`` for the connections that ``db`` opens from now on. The project's own options take precedence.

    The connections of a pool of Django's are left as the project has configured them.
    """
    options = db.settings_dict["OPTIONS"]
    if db.vendor == "postgresql" and not options.get("pool"):
        # A copy, because all threads share the settings.
        db.settings_dict = {**db.settings_dict, "OPTIONS": {**OPTIONS, **options}}
        _limit(db)


def _limit(db: BaseDatabaseWrapper) -> None:
    """Apply the limit of the calling thread wherever the connection of ``db`` waits for the server."""
    if db.vendor == "postgresql":
        db.get_new_connection = functools.partial(_open, db)
        if db.connection is not None:
            _limit_waits(db.connection)


def _open(db: Any, params: dict[str, Any]) -> Any:
    try:
        raw = type(db).get_new_connection(db, params)
    except OSError as exc:
        # psycopg waits for the connection with a descriptor of its own. Without a free one it raises the bare error,
        # which a task that is retried after errors of the database would not know.
        raise db.Database.OperationalError(f"Could not connect to the database: {exc}") from exc
    _limit_waits(raw)
    return raw


def _limit_waits(raw: Any) -> None:
    # psycopg2 waits inside libpq, where only the options apply. A connection of a pool may have the limit already.
    if not hasattr(raw, "wait") or "wait" in vars(raw):
        return
    wait = raw.wait

    def wait_within_limit(steps: Any, interval: float = CHECK_INTERVAL_SECONDS, **options: Any) -> Any:
        if _thread.seconds is not None:
            steps = _end_without_answer(raw, steps, _thread.seconds, interval)
        return wait(steps, interval, **options)

    raw.wait = wait_within_limit


def _end_without_answer(
    raw: Any, steps: Generator[Any, Any, T], seconds: float, interval: float
) -> Generator[Any, Any, T]:
    """Take the steps of a call of psycopg, which waits between two of them, and goes on after each interval.

    Closes the connection ``raw`` when the server has sent nothing for ``seconds``, and raises
    ``psycopg.OperationalError``. Intervals are counted, because a process that was suspended finds its answers late.
    """
    silent_intervals = 0
    try:
        wanted = next(steps)
        while silent_intervals * interval < seconds:
            ready = yield wanted
            silent_intervals = 0 if ready else silent_intervals + 1
            wanted = steps.send(ready)
    except StopIteration as answer:
        return answer.value  # type: ignore[no-any-return]
    from psycopg import OperationalError

    raw.close()
    thread = threading.current_thread().name
    logger.warning("Discarded a database connection that did not answer for %g s: thread %s", seconds, thread)
    raise OperationalError(f"The database did not answer for {seconds:g} s.")

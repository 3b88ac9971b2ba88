"""Deadlines for the app's own threads on PostgreSQL, whose server may fall silent without a reset.

After a failover with dropped packets, a firewall that forgot the connection, or in front of a pooler that hangs, a
client waits in ``recv()`` for 15 minutes by the defaults of the kernel, or for ever. The app's own threads give such a
connection up after a few seconds, so that their next call makes a new one. On threads that run the project's code, jobs
and receivers, answers may take as long as they like, and only lost packets are noticed. Connections of views stay as
the project has configured them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Generator
from time import monotonic
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("notifications.database")

#: Seconds that PostgreSQL may take to answer. Longer than the 10 s for which a frozen process can hold a lock.
ANSWER_SECONDS = 15.0
#: libpq's options for connections of the app's own threads: seconds to connect, seconds of silence after which the
#: kernel asks the other end, and milliseconds that sent data may stay unacknowledged.
OPTIONS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class _Thread(threading.local):
    """Whether its connections have the options, and how many seconds it waits for an answer; None: without end."""

    has_options = False
    seconds: float | None = None


_thread = _Thread()


def limit_this_thread(seconds: float | None = None) -> None:
    """Give up connections to PostgreSQL that leave this thread without an answer for ``seconds``.

    ``seconds`` is ``ANSWER_SECONDS`` by default. The thread must be the app's own: each of its connections is limited,
    whatever its alias. Waiting for an answer then raises ``django.db.OperationalError``, and the connection is closed.
    """
    set_options_of_this_thread()
    _thread.seconds = ANSWER_SECONDS if seconds is None else seconds


def set_options_of_this_thread() -> None:
    """Set ``OPTIONS`` for the connections to all databases that this thread opens from now on."""
    if _thread.has_options:
        return
    _thread.has_options = True
    for alias in connections:
        with contextlib.suppress(ImproperlyConfigured):  # its driver is not installed: it is not used here
            set_options(connections[alias])


def set_options(db: BaseDatabaseWrapper) -> None:
    """Set ``OPTIONS`` for the connections that ``db`` opens from now on. The project's own options win.

    Connections of a Django pool are opened by the pool, as the project has configured it.
    """
    if db.vendor != "postgresql":
        return
    _limit_psycopg()
    options = db.settings_dict["OPTIONS"]
    if not options.get("pool"):
        # A copy: the settings belong to the connections of all threads.
        db.settings_dict = {**db.settings_dict, "OPTIONS": {**OPTIONS, **options}}


@functools.cache
def _limit_psycopg() -> None:
    """Have psycopg obey the limit of the calling thread wherever a connection waits for the server.

    In the class, because a pool of Django's asks a connection for its health before it hands it out.
    """
    try:
        from psycopg import Connection
    except ImportError:  # psycopg2 waits inside libpq: there only the options help
        return
    wait = Connection.wait

    @functools.wraps(wait)
    def wait_within_limit(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if _thread.seconds is not None:
            gen = _within(_thread.seconds, self, gen)
        return wait(self, gen, *args, **kwargs)

    Connection.wait = wait_within_limit  # type: ignore[method-assign]


def _within(seconds: float, raw: Any, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Wrap a generator of psycopg's, which is resumed with a false value while the socket is not ready."""
    silent_since = None
    try:
        state = next(gen)
        while True:
            ready = yield state
            if ready:
                silent_since = None
            elif silent_since is None:
                silent_since = monotonic()
            elif monotonic() - silent_since > seconds:
                raise _discarded(raw, seconds)
            state = gen.send(ready)
    except StopIteration as end:
        return end.value


def _discarded(raw: Any, seconds: float) -> Exception:
    from psycopg import OperationalError

    raw.close()
    logger.warning(
        "Discarded a database connection that did not answer for %g s: thread %s",
        seconds,
        threading.current_thread().name,
    )
    return OperationalError(f"The database did not answer for {seconds:g} s.")

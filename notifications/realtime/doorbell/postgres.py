"""Rings from and to other processes on PostgreSQL: NOTIFY after the commit, LISTEN on a connection of its own.

What was said while the connection was away is not heard; the position check finds it. To ring everybody instead would
make all processes read everything at the moment in which the database is back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.db import DatabaseError

from notifications.db.deadlines import limit_this_thread, set_options
from notifications.db.threads import NoThread, start, start_thread
from notifications.db.transactions import call_after_write, connection, in_callers_transaction
from notifications.realtime.doorbell import message as doorbell_message
from notifications.realtime.doorbell.retry import retry_forever

logger = logging.getLogger(__name__)

NAME = "PostgreSQL NOTIFY"
CHANNEL = b"notifications_doorbell"
#: Seconds without a word after which the listening connection is asked for one, and seconds for its answer.
PROBE_SECONDS, PROBE_ANSWER_SECONDS = 10.0, 10.0
#: Seconds that the end waits for the thread.
CONNECT_TIMEOUT_SECONDS = 5.0
#: Seconds between two that this process says, after the last one of which its thread ends, and that the end of the
#: process waits for it.
COALESCE_SECONDS, LINGER, END = 0.005, 0.1, 1.0


class SilentConnection(Exception):
    """The listening connection does not answer."""


def can_listen() -> bool:
    """Whether the app's database is PostgreSQL, through psycopg 3."""
    if connection().vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return is_psycopg3


class PostgresPublisher:
    """``say`` tells other processes: at once, on the connection that committed, so that a lone ring needs no other one.

    What follows within 5 ms is told together, from a thread with a connection of its own that is there meanwhile:
    whoever rings again and again does not wait for each.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        self._users: dict[Any, None] = {}
        self._queue = False
        self._quiet_until = 0.0
        self._thread: threading.Thread | None = None
        self._more = threading.Event()
        self._told = threading.Event()
        self._told.set()

    def say(self, users: Iterable[Any], queue: bool) -> None:
        """Tell the other processes now or soon.

        Never inside a transaction: NOTIFY there makes all commits of the database wait for one another.
        """
        db = connection()
        if in_callers_transaction(db):  # a test case; nobody else could see its rows either
            return
        with self._lock:
            if time.monotonic() < self._quiet_until:
                self._users.update(dict.fromkeys(users))
                self._queue = self._queue or queue
                self._told.clear()
                self._more.set()
                if self._thread is None:
                    try:
                        self._thread = start_thread(self._run, "notifications-doorbell-postgres-says")
                    except NoThread as exc:  # the next call tries again
                        logger.warning("A ring could not be told to other processes: %s", exc)
                return
            self._quiet_until = time.monotonic() + COALESCE_SECONDS
        call_after_write(lambda: self._tell(db, users, queue))

    def stop(self) -> None:
        """Wait until what was said is told, if that takes no longer than a second."""
        self._told.wait(END)

    def _run(self) -> None:
        try:
            self._tell_until_idle()
        except Exception:  # the thread's boundary: what it held is lost, the next ring starts another
            logger.exception("A ring could not be told to other processes.")
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _tell_until_idle(self) -> None:
        limit_this_thread()
        db = _connection_of_our_own()
        try:
            while self._is_more():
                time.sleep(max(0.0, self._quiet_until - time.monotonic()))
                with self._lock:
                    users, queue = list(self._users), self._queue
                    self._users.clear()
                    self._queue = False
                    self._more.clear()
                    self._quiet_until = time.monotonic() + COALESCE_SECONDS
                if not self._tell(db, users, queue):
                    db.close()
        finally:
            db.close()

    def _is_more(self) -> bool:
        """Wait a little for more to say; forget the thread when nothing comes."""
        with self._lock:
            if not self._more.is_set():
                self._told.set()
        self._more.wait(LINGER)
        with self._lock:
            if not self._more.is_set():
                self._thread = None
            return self._more.is_set()

    def _tell(self, db: Any, users: Iterable[Any], queue: bool) -> bool:
        from psycopg import Error
        from psycopg.generators import execute
        from psycopg.pq import Escaping, ExecStatus

        messages = doorbell_message.messages(self._origin, users, queue)
        try:
            db.ensure_connection()
            # By libpq itself: a lone ring comes after some idle time, when each layer passed takes as long as the trip.
            pgconn = db.connection.pgconn
            quote = Escaping(pgconn).escape_literal
            pgconn.send_query(
                b"; ".join(
                    b"NOTIFY %s, %s" % (CHANNEL, quote(json.dumps(text).encode())) for text in messages
                )
            )
            # Not by exec_(): that waits inside libpq, where no deadline of this thread is obeyed.
            told = db.connection.wait(execute(pgconn))[-1]
            if told.status != ExecStatus.COMMAND_OK:
                raise Error(told.get_error_message())
        except (DatabaseError, Error) as exc:
            db.errors_occurred = True  # Django then looks whether the connection still works
            logger.warning("A ring could not be told to other processes: %s", exc)
            return False
        return True


class PostgresListener:
    """Calls ``heard(users, queue=…)`` from a thread of its own with what other processes than ``origin`` say."""

    def __init__(self, origin: str, heard: Callable[..., None]) -> None:
        self._origin = origin
        self._heard = heard
        self._ended = threading.Event()
        self._end, self._ends = socket.socketpair()
        self.hearing = False
        self._thread = threading.Thread(target=self._run, name="notifications-doorbell-postgres", daemon=True)
        try:
            start(self._thread)
        except NoThread:
            self._end.close()
            self._ends.close()
            raise

    def stop(self) -> None:
        """End the thread and its connection. Does not wait when called by the thread itself."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._ends.send(b".")
        if threading.current_thread() is not self._thread:
            self._thread.join(CONNECT_TIMEOUT_SECONDS)

    def _run(self) -> None:
        limit_this_thread()
        with self._end, self._ends:
            retry_forever(f"Doorbell: {NAME}", self._listen, self._ended)

    def _listen(self, well: Callable[[], None]) -> None:
        db = _connection_of_our_own()
        try:
            with db.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL.decode()}")
            well()
            self._hear(db.connection.pgconn)
        finally:
            self.hearing = False
            with contextlib.suppress(Exception):  # it is broken already
                db.close()

    def _hear(self, pgconn: Any) -> None:
        """Read what comes, until the end or an error; ask for a word where none comes."""
        with selectors.DefaultSelector() as selector:
            selector.register(pgconn.socket, selectors.EVENT_READ)
            selector.register(self._end, selectors.EVENT_READ)
            self.hearing = True
            is_probed = False
            while not self._ended.is_set():
                if selector.select(PROBE_ANSWER_SECONDS if is_probed else PROBE_SECONDS):
                    is_probed = False
                elif is_probed:
                    raise SilentConnection(f"PostgreSQL did not answer for {PROBE_ANSWER_SECONDS:g} s")
                else:
                    is_probed = True
                    pgconn.send_query(b"SELECT 1")
                    pgconn.flush()
                pgconn.consume_input()
                while said := pgconn.notifies():
                    self._read(said.extra)
                while not pgconn.is_busy() and pgconn.get_result():
                    pass

    def _read(self, text: bytes) -> None:
        try:
            message = json.loads(text)
        except ValueError:  # anybody who may use the database may say anything here
            return
        if ring := doorbell_message.read(message, self._origin):
            users, queue = ring
            self._heard(users, queue=queue)


def _connection_of_our_own() -> Any:
    # A copy of Django's own connection, so that whatever the project's engine does to connect is done here too.
    db = connection().copy()
    options = {**db.settings_dict["OPTIONS"]}
    options.pop("pool", None)  # it would be taken out of the pool for good
    db.settings_dict |= {"OPTIONS": options, "AUTOCOMMIT": True}
    set_options(db)
    return db

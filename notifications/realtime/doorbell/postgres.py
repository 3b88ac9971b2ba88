"""Rings to and from other processes on PostgreSQL: NOTIFY after the commit, LISTEN on a separate connection.

Rings sent while the listening connection is down are lost, and the position check finds their changes. Ringing every
user after a reconnect instead would make all processes read everything at the moment when the database is back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from notifications.db.deadlines import set_options
from notifications.db.transactions import call_after_write, connection, dialect, in_callers_transaction
from notifications.db.unavailable import QUERY_ERRORS, log_retried
from notifications.realtime.doorbell.other_processes import (
    COALESCE_SECONDS,
    ListenerThread,
    Publisher,
    build_messages,
    encode_message,
    parse_message,
)
from notifications.streams.carrying import Changes
from notifications.streams.rings import NO_CHANGES

logger = logging.getLogger(__name__)

NAME = "PostgreSQL NOTIFY"
CHANNEL = b"notifications_doorbell"
#: Seconds without traffic after which the listening connection is probed, and seconds for the answer.
PROBE_SECONDS, PROBE_ANSWER_SECONDS = 10.0, 10.0
#: Seconds without a ring after which the publishing thread ends.
IDLE_SECONDS = 0.1
#: Seconds that ``measure_round_trip()`` waits.
TIMEOUT_SECONDS = 5.0


class ProbeFailed(Exception):
    """The listening connection does not answer, or leads to a server that no longer takes what others ring."""


def can_listen() -> bool:
    """Return whether the app's database notifies connections: it is PostgreSQL."""
    return not dialect().stores_rings


def measure_round_trip() -> float:
    """Notify a listening connection and return the seconds it took. Raises ``ProbeFailed`` if it receives nothing."""
    db = _new_connection()
    try:
        with db.cursor() as cursor:
            cursor.execute("LISTEN notifications_try")
        start = time.perf_counter()
        with connection().cursor() as cursor:
            cursor.execute("NOTIFY notifications_try")
        for _ in db.connection.notifies(timeout=TIMEOUT_SECONDS, stop_after=1):
            return time.perf_counter() - start
    finally:
        db.close()
    raise ProbeFailed("LISTEN receives nothing")


class PostgresPublisher(Publisher):
    """Publishes rings with NOTIFY.

    A single ring is sent on the connection that committed, so it needs no second one. Rings within 5 ms after it are
    combined and sent by a thread with a connection of its own, so repeated rings do not wait each time.
    """

    def __init__(self, origin: str) -> None:
        name = "notifications-doorbell-postgres-publisher"
        super().__init__(origin, name, idle_seconds=lambda: IDLE_SECONDS)

    def publish(self, users: Iterable[Any], queue: bool, changes: Changes = NO_CHANGES) -> None:
        """Publish a ring now or soon.

        Never inside a transaction: NOTIFY there makes all commits of the database wait for one another.
        """
        db = connection()
        if in_callers_transaction(db):  # a TestCase, whose rows no other process can see
            return
        with self._lock:
            is_single = time.monotonic() >= self._next_send_at
            if is_single:
                self._next_send_at = time.monotonic() + COALESCE_SECONDS
        if is_single:
            call_after_write(lambda: self._send(db, users, queue, changes))
        else:
            super().publish(users, queue, changes)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        db = self._db = _new_connection()
        try:
            yield
        finally:
            db.close()

    def _send_combined(self, users: dict[Any, Any], queue: bool) -> None:
        if not self._send(self._db, users, queue, users):
            self._db.close()

    def _send(self, db: Any, users: Iterable[Any], queue: bool, changes: Changes) -> bool:
        from psycopg import Error
        from psycopg.generators import execute
        from psycopg.pq import ExecStatus

        messages = build_messages(self._origin, users, queue, changes)
        texts = [encode_message(message).encode() for message in messages]
        try:
            db.ensure_connection()
            # Directly through libpq: a single ring comes after some idle time, when Django's and psycopg's layers take
            # as long as the round trip.
            pgconn = db.connection.pgconn
            # One transaction. Its commit does not wait for the disk, as that of the rows has done: a ring may be lost.
            # Texts are parameters: pg_stat_statements would keep them as parts of a statement.
            rings = [b"pg_notify('%s', $%d)" % (CHANNEL, number) for number in range(1, len(texts) + 1)]
            statement = b"SELECT set_config('synchronous_commit', 'off', true), " + b", ".join(rings)
            pgconn.send_query_params(statement, texts)
            # Not exec_(), which waits inside libpq, where the deadline of this thread has no effect.
            result = db.connection.wait(execute(pgconn))[-1]
            if result.status != ExecStatus.TUPLES_OK:
                raise Error(result.get_error_message())
        except (*QUERY_ERRORS, Error) as exc:
            db.errors_occurred = True  # makes Django check the connection before the next request
            log_retried(logger, "Could not ring other processes", exc)
            return False
        return True


class PostgresListener(ListenerThread):
    """Call ``on_ring(users, queue=…, changes=…)``, in a thread, with rings of other processes than ``origin``."""

    def __init__(self, origin: str, on_ring: Callable[..., None]) -> None:
        self._origin = origin
        self._on_ring = on_ring
        self.is_listening = False
        super().__init__("notifications-doorbell-postgres")

    def _listen(self) -> None:
        db = _new_connection()
        try:
            with db.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL.decode()}")
            self.note_success()
            self._receive(db.connection.pgconn)
        finally:
            self.is_listening = False
            db.close()

    def _receive(self, pgconn: Any) -> None:
        """Read notifications until ``stop()`` or an error. Probe the connection when it is idle."""
        with selectors.DefaultSelector() as selector:
            selector.register(pgconn.socket, selectors.EVENT_READ)
            selector.register(self._stop_reader, selectors.EVENT_READ)
            self.is_listening = True
            is_probed = False
            while not self.is_stopped:
                if selector.select(PROBE_ANSWER_SECONDS if is_probed else PROBE_SECONDS):
                    is_probed = False
                elif is_probed:
                    raise ProbeFailed(f"PostgreSQL did not answer for {PROBE_ANSWER_SECONDS:g} s")
                else:
                    is_probed = True
                    # A server that was demoted answers, and hears no ring: those who write ring at another one.
                    pgconn.send_query(b"SHOW transaction_read_only")
                    pgconn.flush()
                pgconn.consume_input()
                while notification := pgconn.notifies():
                    self._handle(notification.extra)
                # The answer may have arrived before select() waited for it.
                while not pgconn.is_busy() and (answer := pgconn.get_result()):
                    is_probed = False
                    if answer.get_value(0, 0) == b"on":
                        raise ProbeFailed("PostgreSQL has become read-only")

    def _handle(self, payload: bytes) -> None:
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):  # any user of the database can send anything on the channel
            return
        if ring := parse_message(message, self._origin):
            rung, queue = ring
            self._on_ring(rung, queue=queue, changes=rung)


def _new_connection() -> Any:
    # A copy of Django's connection, so that it is opened in the way of the project's database engine.
    db = connection().copy()
    set_options(db)
    return db

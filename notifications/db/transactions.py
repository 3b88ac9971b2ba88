"""Short transactions of our own, and what is put off to the end of a caller's."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

T = TypeVar("T")

logger = logging.getLogger("notifications")


class _LockTime(threading.local):
    """For how many seconds ``retrying_atomic`` has held SQLite's lock on this thread, and until when (monotonic)."""

    seconds = 0.0
    until = 0.0


lock_time = _LockTime()


class _Deferred(threading.local):
    """What can wait until whoever waits for this thread has its answer; None where nobody takes care of it."""

    calls: list[Callable[[], object]] | None = None


deferred = _Deferred()

#: Seconds for which a busy or deadlocked transaction of ours is tried again.
BUSY_RETRY_SECONDS = 5.0
#: Rows of one transaction of a bulk write, and seconds at least for which SQLite's lock is left to others after it.
MAX_ROWS_PER_TRANSACTION, MIN_LOCK_PAUSE_SECONDS = 100, 0.005
#: Seconds at most for which the lock is left to others, however long it was held: enough for several of them.
MAX_PAUSE_SECONDS = 0.25
#: How our transactions begin on PostgreSQL, in one round trip. A process that is frozen in the middle of one, a virtual
#: machine say, must not keep streams and rows from all others: the server ends its session.
ISOLATION = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
BEGIN = (ISOLATION, "SET LOCAL idle_in_transaction_session_timeout = '10s'")


def database() -> str:
    """Return the alias of the one database that the app reads and writes; replicas are never read."""
    if not router.routers:
        return DEFAULT_DB_ALIAS
    from notifications.models import Stream

    return router.db_for_write(Stream)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to ``database()``."""
    return connections[database()]


def in_callers_transaction(db: BaseDatabaseWrapper | None = None) -> bool:
    """Return whether this thread is in a transaction of the caller's. Without autocommit it always is."""
    db = db or connection()
    return db.in_atomic_block or not db.get_autocommit()


def connects_with_autocommit(db: BaseDatabaseWrapper) -> bool:
    """Return whether a new connection of this thread has autocommit: threads of the app always turn it on."""
    return db.settings_dict["AUTOCOMMIT"] or threading.current_thread().name.startswith("notifications-")


def turn_autocommit_on() -> None:
    """Commit what a command of the app writes, also in a project with ``AUTOCOMMIT = False``."""
    db = connection()
    if not db.settings_dict["AUTOCOMMIT"]:
        db.close()  # reads before this may have begun a transaction
        db.set_autocommit(True)


def retrying_atomic(work: Callable[[], T]) -> T:
    """Run ``work`` in one short transaction of our own, and again from the start if the database was busy.

    READ COMMITTED on PostgreSQL, whatever the host's default; begun with a write on SQLite, so that a host with default
    options (deferred transactions) waits for the lock instead of failing at its first write after a read.
    Inside a caller's transaction (a test case, say) it is a savepoint.
    Raises ``django.db.OperationalError`` when the database stays busy.
    """
    db = connection()
    nested = in_callers_transaction(db)
    give_up = time.monotonic() + BUSY_RETRY_SECONDS
    pause = 0.005
    while True:
        try:
            with transaction.atomic(using=db.alias):
                if not nested:
                    _begin(db)
                since = time.monotonic()
                done = work()
            lock_time.until = time.monotonic()
            lock_time.seconds += lock_time.until - since
            return done
        except OperationalError as exc:
            if nested or not _is_transient(exc) or time.monotonic() > give_up:
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, 0.1)


def execute_one(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of one statement, in a transaction of our own; on PostgreSQL that is one round trip."""
    db = connection()
    # What is sent together is one transaction, unless one is open already. Nobody can be frozen in the middle of it.
    if in_callers_transaction(db) or not _accepts_multiple_statements(db):
        return retrying_atomic(lambda: execute_many([(sql, params)])[0])
    return execute_many([(ISOLATION, ()), (sql, params)])[1]


def execute_many(statements: Sequence[tuple[str, Sequence[Any]]]) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each of some statements, one after the other; on PostgreSQL that is one round trip.

    Each sees what was committed before it began, also while the one before it waited.
    """
    db = connection()
    with db.cursor() as cursor:
        if not _accepts_multiple_statements(db):
            found = []
            for sql, params in statements:
                cursor.execute(sql, params)
                found.append(cursor.fetchall() if cursor.description else [])
            return found
        cursor.execute(
            "; ".join(sql for sql, _ in statements), [part for _, params in statements for part in params]
        )
        found = [cursor.fetchall() if cursor.description else []]
        while cursor.nextset():
            found.append(cursor.fetchall() if cursor.description else [])
        return found


def fair_atomic(work: Callable[[], T], *, more_follows: bool = False) -> T:
    """Run one transaction of a bulk write by ``retrying_atomic``; return what ``work`` returns.

    If that is true, or with ``more_follows``, another transaction follows. SQLite's lock is then left free for as long
    as it was held, at most ``MAX_PAUSE_SECONDS``: the lock is unfair, and a process that writes back to back leaves
    others 4 writes a second.
    """
    before = lock_time.seconds
    done = retrying_atomic(work)
    db = connection()
    if (done or more_follows) and db.vendor == "sqlite" and not in_callers_transaction(db):
        time.sleep(min(max(MIN_LOCK_PAUSE_SECONDS, lock_time.seconds - before), MAX_PAUSE_SECONDS))
    return done


def on_commit(work: Callable[[], object]) -> None:
    """Call ``work`` after the caller's transaction, at once where there is none. Its errors are logged, not raised.

    With ``AUTOCOMMIT = False`` nothing tells of the caller's commit: ``work`` is called at once, in that transaction.
    """
    db = connection()
    # A closure made here: Django 5.2 cannot name a functools.partial in its log line and would lose the later hooks.
    call = lambda: work()  # noqa: E731
    if not _is_committed_by_hand(db):
        transaction.on_commit(call, using=db.alias, robust=True)
    elif db.settings_dict["AUTOCOMMIT"]:
        # Autocommit is off for a while. Django calls these when it is on again after a commit, and takes none.
        db.run_on_commit.append((set(db.savepoint_ids), call, True))
    else:
        try:
            call()
        except Exception:
            logger.exception("Error calling what follows a change")


def call_after_write(work: Callable[[], object]) -> None:
    """Call ``work``, whose end nobody waits for: now, or on a worker's writing thread after the call that it is in."""
    if deferred.calls is None:
        work()
    else:
        deferred.calls.append(work)


def on_commit_merged(name: str, told: T, work: Callable[[list[T]], object]) -> None:
    """Call ``work`` once after the caller's transaction, with what all calls under this name in it have told.

    Not with ``AUTOCOMMIT = False``: other processes look for what was committed once a second.
    """
    db = connection()
    if _is_committed_by_hand(db) and not db.settings_dict["AUTOCOMMIT"]:
        return
    # The first callback that runs takes all. A flag at registering would be wrong: a savepoint rolled back takes its
    # callback along. The references are weak, so that a call whose callback went with a rollback is forgotten.
    call = _MergedCall(told)
    waiting: WeakSet[_MergedCall] = db.__dict__.setdefault(f"_notifications_{name}", WeakSet())
    waiting.add(call)

    def take_all() -> None:
        if call in waiting:
            taken = list(waiting)
            waiting.clear()
            work([one.told for one in taken])

    on_commit(take_all)


@dataclass(slots=True, weakref_slot=True, eq=False)
class _MergedCall:
    """What is put off, for as long as its callback waits."""

    told: Any


def begins_with_lock(db: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction waits for the locks that it needs, whatever it does first."""
    mode = db.settings_dict["OPTIONS"].get("transaction_mode") or ""
    return db.vendor != "sqlite" or mode.upper() in ("IMMEDIATE", "EXCLUSIVE")


def begin_with_write() -> None:
    """Wait for SQLite's lock now: a deferred transaction that reads first may fail at its first write."""
    db = connection()
    if not begins_with_lock(db):
        with db.cursor() as cursor:
            cursor.execute("DELETE FROM notifications_stream WHERE 0")


def _is_committed_by_hand(db: BaseDatabaseWrapper) -> bool:
    """Return whether the caller's transaction ends by ``transaction.commit()``, of which Django tells nobody."""
    return not db.get_autocommit() and not (db.in_atomic_block and db.commit_on_exit)


def _begin(db: BaseDatabaseWrapper) -> None:
    if db.vendor == "postgresql":
        with db.cursor() as cursor:
            for statement in ["; ".join(BEGIN)] if _accepts_multiple_statements(db) else BEGIN:
                cursor.execute(statement)
    begin_with_write()


def _accepts_multiple_statements(db: BaseDatabaseWrapper) -> bool:
    """Whether several statements can be sent at once. Where a host has every one prepared the server takes one."""
    return db.vendor == "postgresql" and not db.settings_dict["OPTIONS"].get("server_side_binding")


def _is_transient(exc: OperationalError) -> bool:
    """Whether trying again helps: SQLite's lock, PostgreSQL's deadlock or serialization failure."""
    if getattr(exc.__cause__, "sqlstate", None) in ("40001", "40P01", "55P03"):
        return True
    return "database is locked" in str(exc) or "database table is locked" in str(exc)

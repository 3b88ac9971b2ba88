"""The app's own short transactions, and callbacks after the commit of a caller's transaction.

"The app's own" are transactions that this app begins and ends. A caller's transaction is one that the project opened
before it called the app.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, Error, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db import imports
from notifications.db.dialects import Dialect, dialect_of
from notifications.db.sqlstates import is_busy
from notifications.db.thread_connections import discard_unusable
from notifications.db.unavailable import classify

T = TypeVar("T")

logger = logging.getLogger("notifications")


class _LockTime(threading.local):
    """Seconds for which ``retrying_atomic`` has held SQLite's lock on this thread, and until when (monotonic)."""

    seconds = 0.0
    until = 0.0
    free_until = 0.0  #: until when this thread's bulk writes leave the lock free


lock_time = _LockTime()


class _Deferred(threading.local):
    """Callbacks deferred until the current call of this thread has returned; None: they are not deferred."""

    calls: list[Callable[[], object]] | None = None


deferred = _Deferred()


class _Own(threading.local):
    """The connection of the transaction of the app's own that is open on this thread, None without one."""

    db: BaseDatabaseWrapper | None = None


_own = _Own()

#: Why a project with manual commits is refused.
MANUAL_COMMITS = (
    "DATABASES[{!r}]['AUTOCOMMIT'] is False, which notifications does not support: Django calls no hooks after the "
    "commits of such a project."
)
#: Seconds for which a busy or deadlocked transaction of the app's own is tried again.
BUSY_RETRY_SECONDS = 5.0
#: Rows that one transaction of a bulk write changes at most.
MAX_ROWS_PER_TRANSACTION = 100
#: Seconds for which a bulk writer leaves SQLite's lock free after a transaction: at least, and at most.
MIN_LOCK_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.005, 0.25
#: The first statements of the app's own transactions on PostgreSQL, sent with the next one. The timeout has the server
#: end the session of a process that is frozen inside a transaction, a suspended virtual machine for example, which
#: would keep streams and rows locked.
ISOLATION = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
NOT_DURABLE = "SET LOCAL synchronous_commit TO off"
IDLE_TIMEOUT = "SET LOCAL idle_in_transaction_session_timeout = '{}s'"
#: What stands in a connection's list of hooks where one was that has moved to its end.
_MOVED_HOOK: tuple[Any, ...] = (frozenset(), lambda: None, True)


def database() -> str:
    """Return the alias of the one database that the app reads and writes; replicas are never read."""
    if not router.routers:
        return DEFAULT_DB_ALIAS
    from notifications.models import Stream

    return router.db_for_write(Stream)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to ``database()``."""
    # A notification needs the connection in a dozen places. To find it by its alias takes eight calls, and without
    # routers database() is not needed.
    return _own.db or connections[database() if router.routers else DEFAULT_DB_ALIAS]


def dialect() -> Dialect:
    """Return the SQL, and the ways, of the database of ``connection()``."""
    return dialect_of(connection())


def in_callers_transaction(db: BaseDatabaseWrapper | None = None) -> bool:
    """Return whether this thread is in a caller's transaction. It always is while autocommit is turned off.

    Raises ``ImproperlyConfigured`` in a project with ``AUTOCOMMIT = False``.
    """
    db = db or connection()
    return db.in_atomic_block or not _has_autocommit(db)


def _has_autocommit(db: BaseDatabaseWrapper) -> bool:
    # Not db.get_autocommit(), which connects: a caller that waits for the database calls this while it is away.
    is_on = bool(db.settings_dict["AUTOCOMMIT"] if db.connection is None else db.autocommit)
    if not is_on and not db.settings_dict["AUTOCOMMIT"]:
        raise ImproperlyConfigured(
            f"{MANUAL_COMMITS.format(db.alias)} Remove it, and use ATOMIC_REQUESTS or transaction.atomic()."
        )
    return is_on


def retrying_atomic(
    work: Callable[[], T],
    *,
    idle_seconds: int = 10,
    is_durable: bool = True,
    db: BaseDatabaseWrapper | None = None,
) -> T:
    """Run ``work`` in one short transaction of the app's own, and again from the start if the database was busy.

    It is READ COMMITTED on PostgreSQL, whatever the host's default. On SQLite it begins with a write, because a
    deferred transaction (Django's default) that reads first fails at its first write instead of waiting for the lock.
    Inside a caller's transaction, a test case for example, it is a savepoint. Else modules of tasks that it needs are
    imported between two tries. PostgreSQL ends it, and frees its locks, when the process sends no statement for
    ``idle_seconds``. ``is_durable`` is that of ``execute_one()``, ``db`` is ``connection()``.
    Raises ``django.db.OperationalError`` when the database stays busy.
    """
    db = db or connection()
    nested = in_callers_transaction(db)

    def run() -> T:
        with transaction.atomic(using=db.alias):
            first = [ISOLATION, IDLE_TIMEOUT.format(idle_seconds), *([] if is_durable else [NOT_DURABLE])]
            begin = None if nested else dialect_of(db).begin(db, first)
            started, outer = time.monotonic(), _own.db
            try:
                imports.thread.may_repeat |= not nested
                _own.db = db
                result = work()
            finally:
                _own.db = outer
                imports.thread.may_repeat &= nested
                if begin in db.execute_wrappers:  # it has executed no statement
                    db.execute_wrappers.remove(begin)
        lock_time.until = time.monotonic()
        lock_time.seconds += lock_time.until - started
        return result

    return _retry(run, nested)


def retrying(work: Callable[[], T], db: BaseDatabaseWrapper | None = None) -> T:
    """Run ``work``, which is one transaction or one statement without one, again if the database was busy.

    Inside a caller's transaction it is run once.
    Raises ``django.db.OperationalError`` when the database stays busy, or is not available for another reason.
    """
    return _retry(work, in_callers_transaction(db))


def _retry(work: Callable[[], T], nested: bool) -> T:
    stop_at = time.monotonic() + BUSY_RETRY_SECONDS
    pause = 0.005
    while True:
        try:
            return work()
        except imports.NotImported as exc:
            stop_at = exc.import_now() + BUSY_RETRY_SECONDS
        except Error as exc:
            discard_unusable(exc, [connection()])
            if nested:
                raise
            if not is_busy(exc) or time.monotonic() > stop_at:
                raise classify(exc) from exc.__cause__  # which has the code of the error
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, 0.1)


def execute_one(
    sql: str, params: Sequence[Any], *, lock: tuple[str, list[Any]] | None = None, is_durable: bool = True
) -> list[tuple[Any, ...]]:
    """Return the rows of one statement in a transaction of the app's own: one round trip to PostgreSQL.

    It is executed again if the database was busy, as by ``retrying_atomic``. It sees the rows that the query ``lock``
    returns, and all others, as they are once PostgreSQL has locked these. Unless ``is_durable``, its commit does not
    wait for PostgreSQL's disk, and is lost if the server crashes before the next commit that does.
    """
    db = connection()
    dialect = dialect_of(db)
    statements = [*(dialect.lock_statements(*lock) if lock else ()), (sql, params)]
    # Statements sent together are one implicit transaction, in which the process cannot be frozen: it needs no timeout.
    if in_callers_transaction(db) or not (dialect.has_one_writer or dialect.accepts_multiple_statements(db)):
        return retrying_atomic(lambda: execute_many(statements)[-1])
    statements[:0] = dialect.begin_statements(ISOLATION if is_durable else f"{ISOLATION}; {NOT_DURABLE}")
    return retrying(lambda: execute_many(statements)[-1], db)


def execute_many(statements: Sequence[tuple[str, Sequence[Any]]]) -> list[list[tuple[Any, ...]]]:
    """Execute statements in order and return the rows of each; on PostgreSQL that is one round trip.

    Each statement sees what was committed before it began, also while the previous one waited for a lock.
    """
    db = connection()
    with db.cursor() as cursor:
        if not dialect_of(db).accepts_multiple_statements(db):
            found = []
            for sql, params in statements:
                cursor.execute(sql, params)
                found.append(cursor.fetchall() if cursor.description else [])
            return found
        cursor.execute(
            "; ".join([sql for sql, _ in statements]), [part for _, params in statements for part in params]
        )
        found = [cursor.fetchall() if cursor.pgresult.nfields else []]  # description makes an object a column
        while cursor.nextset():
            found.append(cursor.fetchall() if cursor.pgresult.nfields else [])
        return found


def fair_atomic(work: Callable[[], T], *, more_follows: bool = False, is_durable: bool = True) -> T:
    """Run one transaction of a bulk write by ``retrying_atomic``; return what ``work`` returns.

    If that is true, or with ``more_follows``, another transaction follows. SQLite's lock is then left free for as long
    as it was held, at most ``MAX_PAUSE_SECONDS``: the lock is unfair, and a process that writes back to back leaves
    others 4 writes a second. The next call on this thread waits for the end of that time, so that what it writes is
    prepared meanwhile. ``is_durable`` is that of ``execute_one()``.
    """
    db = connection()
    if not dialect_of(db).has_one_writer or in_callers_transaction(db):
        return retrying_atomic(work, is_durable=is_durable, db=db)
    if (pause := lock_time.free_until - time.monotonic()) > 0:
        time.sleep(pause)
    before = lock_time.seconds
    result = retrying_atomic(work, db=db)
    if result or more_follows:
        locked_seconds = lock_time.seconds - before
        pause = min(max(MIN_LOCK_PAUSE_SECONDS, locked_seconds), MAX_PAUSE_SECONDS)
        lock_time.free_until = lock_time.until + pause
    return result


def on_commit(work: Callable[[], object], db: BaseDatabaseWrapper | None = None) -> None:
    """Call ``work`` after the commit of the caller's transaction, immediately where there is none.

    Its errors are logged, not raised.
    """
    db = db or connection()
    # Django 5.2 fails to log the name of a functools.partial, and drops the later hooks.
    hook = work if hasattr(work, "__qualname__") else lambda: work()
    if (db.in_atomic_block and db.commit_on_exit) or _has_autocommit(db):
        db.on_commit(hook, robust=True)
    else:
        # Autocommit is off temporarily: Django's on_commit() refuses, but Django runs these when it is on again.
        db.run_on_commit.append((set(db.savepoint_ids), hook, True))


def call_after_write(work: Callable[[], object]) -> None:
    """Call ``work``: immediately, or on a worker's writer thread after the current call has returned."""
    if deferred.calls is None:
        work()
    else:
        deferred.calls.append(work)


def on_commit_merged(
    name: str, argument: T, work: Callable[[list[T]], object], db: BaseDatabaseWrapper | None = None
) -> None:
    """Call ``work`` once after the caller's transaction, with the arguments of all calls under this name in it.

    ``db``
        The connection of the transaction, by default ``connection()``.
    """
    db = db or connection()
    waiting: WeakSet[_MergedCall] | None = db.__dict__.get(name_of_set := f"_notifications_{name}")
    if waiting is None:
        waiting = db.__dict__[name_of_set] = WeakSet()
    hooks = db.run_on_commit
    # Registering one hook only would be wrong, because the rollback of its savepoint removes it. That of the same
    # savepoints would remove the next one too, so it takes this argument as well: for 500 jobs in one transaction the
    # garbage collector has 7,000 objects less. It moves to the end, where tests find what a block has registered.
    for at in range(max(0, len(hooks) - 2), len(hooks)):
        call = getattr(hooks[at][1], "merged_call", None)
        if call and call in waiting and hooks[at][0] == set(db.savepoint_ids):
            call.arguments.append(argument)
            hooks.append(hooks[at])
            hooks[at] = _MOVED_HOOK
            return
    # The first hook that runs takes all arguments. References are weak, so that the call of a removed one is forgotten.
    call = _MergedCall([argument])
    waiting.add(call)

    def take_all() -> None:
        if call in waiting:
            taken = list(waiting)
            waiting.clear()
            work([argument for merged in taken for argument in merged.arguments])

    take_all.merged_call = call  # type: ignore[attr-defined]
    on_commit(take_all, db)


@dataclass(slots=True, weakref_slot=True, eq=False)
class _MergedCall:
    """The arguments of calls, which live as long as their hook is registered."""

    arguments: list[Any]


def begin_with_write() -> None:
    """Take SQLite's lock now. A deferred transaction that reads first may fail at its first write."""
    dialect().take_lock(connection())


def try_write() -> None:
    """Raise an error if the database takes no write, by one that changes no row.

    A server that was demoted, or a role that may not write, answers queries all the same.
    """
    retrying_atomic(lambda: execute_many([("DELETE FROM notifications_ring WHERE 1 = 0", ())]))


def chunks(values: Iterable[T], size: int = MAX_ROWS_PER_TRANSACTION) -> Iterator[list[T]]:
    """Yield lists of at most ``size`` of these values."""
    source = iter(values)
    while chunk := list(islice(source, size)):
        yield chunk

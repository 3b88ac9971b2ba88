"""One process migrates at a time; others that start meanwhile wait until it is done."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

#: Number of the advisory lock in the database of the site.
ADVISORY_LOCK = 7_214_550_901
POLL_INTERVAL_SECONDS = 0.2


@contextmanager
def migration_lock(db: BaseDatabaseWrapper, say: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock under which one process migrates ``db``; ``say`` gets a line when another one holds it.

    The lock goes with its process: a file's lock for SQLite, an advisory lock of the connection for PostgreSQL.
    """
    if db.vendor == "sqlite":
        # Never removed: another process may have it open and wait.
        with open(f"{db.settings_dict['NAME']}.migrating", "w") as file:
            _wait(lambda: _lock_file(file.fileno()), say)
            yield
        return
    # Not pg_advisory_lock(): a statement that waits keeps its snapshot, for which CREATE INDEX CONCURRENTLY of the
    # process that migrates would wait.
    _wait(lambda: _ask(db, "SELECT pg_try_advisory_lock(%s)"), say)
    try:
        yield
    finally:
        if db.is_usable():
            _ask(db, "SELECT pg_advisory_unlock(%s)")


def _wait(is_held: Callable[[], bool], say: Callable[[str], object]) -> None:
    said = False
    while not is_held():
        if not said:
            say("Another process migrates the database. Waiting until it is done.")
            said = True
        time.sleep(POLL_INTERVAL_SECONDS)


def _lock_file(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ask(db: BaseDatabaseWrapper, sql: str) -> bool:
    with db.cursor() as cursor:
        cursor.execute(sql, [ADVISORY_LOCK])
        return bool(cursor.fetchone()[0])

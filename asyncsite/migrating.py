"""A lock for migrations: one process migrates, others that start meanwhile wait."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

#: The key of the advisory lock in the site's database.
ADVISORY_LOCK = 7_214_550_901
POLL_INTERVAL_SECONDS = 0.2


@contextmanager
def migration_lock(db: BaseDatabaseWrapper, write_line: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock for migrating ``db``. ``write_line`` is called if another process holds it.

    It is a file lock for SQLite and an advisory lock of the connection for PostgreSQL, so it ends with its process.
    """
    if db.vendor == "sqlite":
        # The file is not removed: another process may have it open and wait for its lock.
        with open(f"{db.settings_dict['NAME']}.migrating", "w") as file:
            _wait(lambda: _lock_file(file.fileno()), write_line)
            yield
        return
    # Not pg_advisory_lock(): a waiting statement keeps its snapshot, and CREATE INDEX CONCURRENTLY in the process that
    # migrates would wait for that.
    _wait(lambda: _query(db, "SELECT pg_try_advisory_lock(%s)"), write_line)
    try:
        yield
    finally:
        if db.is_usable():
            _query(db, "SELECT pg_advisory_unlock(%s)")


def _wait(try_lock: Callable[[], bool], write_line: Callable[[str], object]) -> None:
    is_reported = False
    while not try_lock():
        if not is_reported:
            write_line("Waiting for another process that migrates the database.")
            is_reported = True
        time.sleep(POLL_INTERVAL_SECONDS)


def _lock_file(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _query(db: BaseDatabaseWrapper, sql: str) -> bool:
    with db.cursor() as cursor:
        cursor.execute(sql, [ADVISORY_LOCK])
        return bool(cursor.fetchone()[0])

"""Freeze processes with SIGSTOP at a moment at which they hold no lock of the database.

A process that is frozen in a transaction blocks all others that write to SQLite. Tests of that choose it
(``SIGSTOP after …`` in `statement_faults`); for the others it would be chance.
"""

import os
import random
import signal
import sqlite3
import time
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

#: Counts transactions that are open for longer than those of a running worker.
STUCK_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '0.5 seconds'
AND pid <> pg_backend_pid()
"""


@contextmanager
def frozen(pids, database_url):
    """Freeze processes for the time of the block."""
    freeze_outside_transactions(pids, database_url)
    try:
        yield
    finally:
        thaw(pids)


def freeze_outside_transactions(pids, database_url, chance=random):
    """Freeze processes at a random moment, and try again if they hold a lock that would block others."""
    while True:
        time.sleep(chance.random() * 0.2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all(map(is_stopped, pids)), what="every thread to stop")
        if not holds_a_lock(database_url):
            return
        thaw(pids)


def thaw(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid):
    """Return whether every thread of a process is stopped."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


def holds_a_lock(database_url):
    if not database_url.startswith("sqlite"):
        import psycopg

        time.sleep(0.6)
        with psycopg.connect(database_url) as connection:
            return connection.execute(STUCK_TRANSACTIONS).fetchone()[0] > 0
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False

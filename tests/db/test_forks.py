"""A child that is forked while another thread writes to SQLite can write too."""

import subprocess
import sys

SCRIPT = """
import os, sys, threading, time
import django
from django.conf import settings
from django.db import connection

settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1],
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 1, "init_command": "PRAGMA journal_mode=wal"},
}})
django.setup()
from notifications.db import forks, transactions

transactions.BUSY_RETRY_SECONDS = 1.0


def insert():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (1)")


def write_slowly():
    insert()
    writing.set()
    time.sleep(1)


with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE numbers (number integer)")
forks.keep_out_of_transactions()
writing = threading.Event()
thread = threading.Thread(target=transactions.retrying_atomic, args=[write_slowly])
thread.start()
writing.wait()
child = os.fork()
if child == 0:
    connection.connection = None
    time.sleep(2)  # until the parent's transaction has ended in any case
    transactions.retrying_atomic(insert)
    os._exit(0)
thread.join()
transactions.retrying_atomic(insert)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_waits_for_the_transactions_of_other_threads(tmp_path):
    completed = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, tmp_path / "db.sqlite3"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert completed.returncode == 0, completed.stderr

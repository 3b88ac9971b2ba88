"""A child that is forked while another thread is inside SQLite can use SQLite too."""

import subprocess
import sys

SETUP = """
import os, signal, sys, threading, time
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


with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE numbers (number integer)")
forks.keep_out_of_sqlite()
"""

TRANSACTION = """
def write_slowly():
    insert()
    writing.set()
    time.sleep(1)


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

READS = """
def read():
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM numbers")
            cursor.fetchall()
        connection.close()


connection.close()
threading.Thread(target=read, daemon=True).start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a mutex of SQLite is waited for in C, where only the default action of a signal helps
        transactions.retrying_atomic(insert)
        os._exit(0)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"A child ended with {code}")
"""


def run(script, database):
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SETUP + script, database],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_fork_waits_for_the_transactions_of_other_threads(tmp_path):
    completed = run(TRANSACTION, tmp_path / "db.sqlite3")
    assert completed.returncode == 0, completed.stderr


def test_a_fork_waits_for_the_calls_of_other_threads(tmp_path):
    completed = run(READS, tmp_path / "db.sqlite3")
    assert completed.returncode == 0, completed.stderr

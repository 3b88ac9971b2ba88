"""Users, connections that are driven step by step, and an account of every number ever given."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction

from tests.data import ledger
from tests.support.waiting import wait_until

#: Seconds after which a step counts as hung.
STEP_TIMEOUT_SECONDS = 60


@pytest.fixture
def user(transactional_db):
    return get_user_model().objects.create_user("ada")


@pytest.fixture
def users(transactional_db):
    """users(n) makes that many users and returns their keys."""

    def make(count):
        made = [get_user_model()(username=f"user{number}") for number in range(count)]
        return sorted(row.pk for row in get_user_model().objects.bulk_create(made))

    return make


@pytest.fixture
def on_postgresql(transactional_db):
    """Only where rows are locked one by one."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for the whole file. Run with --database postgres.")


@pytest.fixture
def on_sqlite(transactional_db):
    """Only where one lock is for the whole file."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL locks rows.")


@pytest.fixture
def given(transactional_db):
    """given(user) lists all numbers ever given to rows of a user, ascending."""
    ledger.open_ledger()
    yield ledger.given
    ledger.close_ledger()


@pytest.fixture
def elsewhere(given):
    """elsewhere() is another connection to the database, driven step by step. Its locks end before the ledger does."""
    made = []

    def another():
        made.append(Elsewhere())
        return made[-1]

    yield another
    for connected in made:
        connected.close()


class Elsewhere:
    """A thread with a connection of its own: do() a step, start() one that may have to wait."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self._block = None
        self.backend = self.do(backend_id)

    def do(self, work, *args, **kwargs):
        """Run a step and return what it returns."""
        return self.start(work, *args, **kwargs).result(STEP_TIMEOUT_SECONDS)

    def start(self, work, *args, **kwargs):
        """Begin a step and return its future."""
        return self._thread.submit(work, *args, **kwargs)

    def begin(self):
        """Open a transaction, as a host does."""

        def enter():
            self._block = transaction.atomic()
            self._block.__enter__()

        self.do(enter)

    def commit(self):
        self.do(self._leave)

    def roll_back(self):
        def leave():
            transaction.set_rollback(True)
            self._leave()

        self.do(leave)

    def wait_until_blocked(self):
        """Wait until the step that was started waits for a lock (PostgreSQL)."""
        sql = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: scalar(sql, self.backend), what="the other connection to wait for a lock")

    def close(self):
        if self._block is not None:
            self.roll_back()
        self.do(connections.close_all)
        self._thread.shutdown()

    def _leave(self):
        block, self._block = self._block, None
        block.__exit__(None, None, None)


def backend_id():
    return scalar("SELECT pg_backend_pid()") if connection.vendor == "postgresql" else None


def scalar(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]

"""Users, connections that tests drive step by step, a record of every seq ever assigned, and large tables."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction

from tests.data import ledger
from tests.data.plans import STREAMS, USERS, insert_rows
from tests.support.waiting import wait_until

#: A step that takes longer fails the test.
STEP_TIMEOUT_SECONDS = 60


@pytest.fixture
def users(transactional_db):
    """users(count) creates users and returns their keys."""

    def make(count):
        rows = [get_user_model()(username=f"user{number}") for number in range(count)]
        return sorted(row.pk for row in get_user_model().objects.bulk_create(rows))

    return make


@pytest.fixture
def on_postgresql(transactional_db):
    """Skip the test on SQLite, which locks the whole file instead of rows."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for the whole file. Run with --database postgres.")


@pytest.fixture
def on_sqlite(transactional_db):
    """Skip the test on PostgreSQL, which locks rows instead of the whole database."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL locks rows.")


@pytest.fixture
def assigned_seqs(transactional_db):
    """assigned_seqs(user) lists all seqs ever assigned to rows of a user, ascending."""
    ledger.open_ledger()
    yield ledger.assigned_seqs
    ledger.close_ledger()


@pytest.fixture
def open_connection(assigned_seqs):
    """open_connection() returns a new OtherConnection. They are closed before the ledger is dropped, which locks."""
    opened = []

    def make():
        opened.append(OtherConnection())
        return opened[-1]

    yield make
    for other_connection in opened:
        other_connection.close()


@pytest.fixture
def large_tables(request, transactional_db):
    """Tables so large that the planner of PostgreSQL prefers an index to reading all of one, wherever there is one.

    All, or those that ``pytest.mark.tables`` names: to fill them all takes seconds.
    """
    insert_rows(STREAMS, USERS, *table_names(request))


@pytest.fixture
def filled_tables(request, transactional_db):
    """Tables with a quarter of these rows, for tests that count the rows which a query has read."""
    insert_rows(STREAMS // 4, USERS // 4, *table_names(request))


def table_names(request):
    marker = request.node.get_closest_marker("tables")
    return marker.args if marker else ()


class OtherConnection:
    """A thread with its own connection: do() runs a step, start() begins one that may have to wait for a lock."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self._block = None
        self.backend = self.do(backend_id)

    def do(self, work, *args, **kwargs):
        """Run a step and return its result."""
        return self.start(work, *args, **kwargs).result(STEP_TIMEOUT_SECONDS)

    def start(self, work, *args, **kwargs):
        """Begin a step and return its future."""
        return self._thread.submit(work, *args, **kwargs)

    def begin(self):
        """Open a transaction, as code of a project does."""

        def enter():
            self._block = transaction.atomic()
            self._block.__enter__()

        self.do(enter)

    def commit(self):
        self.do(self.leave)

    def roll_back(self):
        def end():
            transaction.set_rollback(True)
            self.leave()

        self.do(end)

    def wait_until_blocked(self):
        """Wait until the started step waits for a lock (PostgreSQL)."""
        sql = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: scalar(sql, self.backend), what="the other connection to wait for a lock")

    def close(self):
        if self._block is not None:
            self.roll_back()
        self.do(connections.close_all)
        self._thread.shutdown()

    def leave(self):
        block, self._block = self._block, None
        block.__exit__(None, None, None)


def backend_id():
    return scalar("SELECT pg_backend_pid()") if connection.vendor == "postgresql" else None


def scalar(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]

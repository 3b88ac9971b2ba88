"""Short transactions of our own, on connections that the host has configured."""

import sqlite3
import time
from contextlib import closing, suppress

import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.test import RequestFactory, TestCase
from django.test.utils import CaptureQueriesContext

from notifications.api import notify
from notifications.db import transactions
from notifications.db.transactions import (
    begin_with_write,
    execute_one,
    in_callers_transaction,
    on_commit,
    on_commit_merged,
    retrying_atomic,
    try_write,
)
from notifications.http import exceptions_as_problems
from notifications.models import Notification, Stream
from tests.data.conftest import OtherConnection, scalar
from tests.data.shapes import assert_consistent
from tests.db.test_outages import make_away
from tests.db.test_sqlstates import on_postgres  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deferred(transactional_db):
    """A host with Django's default options: transactions begin without a lock, and wait 5 s for one."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no deferred transactions.")
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = {}
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options


def busy(message="database is locked"):
    return OperationalError(message)


def test_it_is_committed_and_returns(transactional_db):
    """One transaction, and what the work returns."""
    assert retrying_atomic(lambda: Stream.objects.create(user_id=1).user_id) == 1
    assert not connection.in_atomic_block
    assert Stream.objects.count() == 1


def test_an_error_rolls_back(transactional_db):
    """And comes to the caller."""

    def work():
        Stream.objects.create(user_id=1)
        raise DataError("bad")

    with pytest.raises(DataError):
        retrying_atomic(work)
    assert not Stream.objects.exists()


def test_a_busy_database_is_tried_again_from_the_start(transactional_db):
    """What the attempt before had written is gone."""
    attempts = []

    def work():
        attempts.append(Stream.objects.count())
        Stream.objects.create(user_id=len(attempts))
        if len(attempts) < 3:
            raise busy()
        return "done"

    assert retrying_atomic(work) == "done"
    assert attempts == [0, 0, 0]


def test_it_gives_up(transactional_db, set_bounds):
    """After some seconds the caller is told."""
    set_bounds(busy=0.05)

    def work():
        raise busy()

    with pytest.raises(OperationalError, match="locked"):
        retrying_atomic(work)


def test_what_does_not_pass_is_not_tried_again(transactional_db):
    """A missing table is no less missing the next time."""
    attempts = []

    def work():
        attempts.append(True)
        raise busy("no such table: notifications_stream")

    with pytest.raises(OperationalError, match="no such table"):
        retrying_atomic(work)
    assert attempts == [True]


def test_inside_a_callers_transaction(transactional_db):
    """It is a savepoint, and the caller decides."""
    with transaction.atomic():
        retrying_atomic(lambda: Stream.objects.create(user_id=1))
        with pytest.raises(OperationalError):
            retrying_atomic(lambda: (_ for _ in ()).throw(busy()))
        assert Stream.objects.count() == 1
        transaction.set_rollback(True)
    assert not Stream.objects.exists()


def test_after_the_commit(transactional_db):
    """At once where there is no transaction, never after a rollback, and an error is nobody else's."""
    done = []
    on_commit(lambda: done.append("at once"))
    with transaction.atomic():
        on_commit(lambda: 1 / 0)
        on_commit(lambda: done.append("after"))
        assert done == ["at once"]
    with transaction.atomic():
        on_commit(lambda: done.append("never"))
        transaction.set_rollback(True)
    assert done == ["at once", "after"]


def test_merged_after_the_commit(transactional_db):
    """Once, with the arguments of all calls but those of a savepoint that was rolled back."""
    works = []

    def add(*arguments):
        for argument in arguments:
            on_commit_merged("test", argument, lambda found: works.append(sorted(found)))

    with transaction.atomic():
        add(1, 2)
        with suppress(ZeroDivisionError), transaction.atomic():
            add(3, 4)
            1 / 0  # noqa: B018
        with transaction.atomic():
            add(5)
            on_commit(lambda: None)
        add(6, 7)
    assert works == [[1, 2, 5, 6, 7]]
    with transaction.atomic():
        add(8, 9)
        transaction.set_rollback(True)
    add(10)
    assert works == [[1, 2, 5, 6, 7], [10]]


def test_merged_calls_leave_nothing_for_the_garbage_collector(transactional_db):
    """Without it, enqueueing 500 jobs in one transaction takes a tenth longer."""
    with transaction.atomic():
        for argument in range(100):
            on_commit_merged("test", argument, lambda found: None)
            on_commit_merged("test of another name", argument, lambda found: None)
        assert len({id(hook) for _, hook, _ in connection.run_on_commit}) == 3


def test_tests_capture_merged_calls(transactional_db):
    """A block finds what it has registered, whatever was registered or called before it in the same transaction."""
    works = []

    def add(argument):
        on_commit_merged("test", argument, lambda found: works.append(sorted(found)))

    with transaction.atomic():
        add(1)
        for argument in (2, 3):
            with TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
                add(argument)
            assert len(callbacks) == 1
    assert works == [[1, 2], [3]]


def test_where_the_lock_is_held_nothing_is_written_to_take_it(transactional_db):
    """With the option IMMEDIATE, as the site has it."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no such lock.")
    with CaptureQueriesContext(connection) as queries:
        retrying_atomic(lambda: None)
    assert [query["sql"] for query in queries.captured_queries] == ["BEGIN IMMEDIATE", "COMMIT"]


def test_one_statement_is_a_transaction_of_our_own(transactional_db):
    """READ COMMITTED, whatever the host's default, and on PostgreSQL one round trip."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite knows no other isolation.")
    scalar("SELECT set_config('default_transaction_isolation', 'repeatable read', false)")
    try:
        with CaptureQueriesContext(connection) as queries:
            assert execute_one("SELECT current_setting('transaction_isolation'), %s", ["x"]) == [
                ("read committed", "x")
            ]
        assert len(queries) == 1
        assert scalar("SELECT current_setting('transaction_isolation')") == "repeatable read"
        with transaction.atomic():
            assert execute_one("SELECT 1", []) == [(1,)]
    finally:
        connection.close()


def test_one_statement_that_writes(user, monkeypatch):
    """It is committed, without a transaction of Django's, and its rows are read without descriptions of columns."""
    if connection.vendor == "postgresql":
        cursor = pytest.importorskip("psycopg").Cursor
        monkeypatch.setattr(
            cursor, "description", property(lambda cursor: pytest.fail("description is slow"))
        )
    notify(user, "note")
    sql = "UPDATE notifications_stream SET seen = seen RETURNING head"
    with CaptureQueriesContext(connection) as queries:
        assert execute_one(sql, []) == [(1,)]
    assert len(queries) == 1 and not connection.in_atomic_block


def test_it_begins_with_its_first_statement(transactional_db):
    """Which alone would take a round trip more; its rows and their number are its own. One without any sends none."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no isolation levels.")

    def work():
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_isolation'), %s", [7])
            first = cursor.rowcount, cursor.fetchall()
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            return first, cursor.fetchone()

    retrying_atomic(lambda: None)
    assert not connection.execute_wrappers
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_isolation TO 'repeatable read'")
    try:
        with CaptureQueriesContext(connection) as queries:
            assert retrying_atomic(work) == ((1, [("read committed", 7)]), ("10s",))
    finally:
        connection.close()
    assert [query["sql"].split()[0] for query in queries] == ["BEGIN", "SET", "SHOW", "COMMIT"]
    assert not connection.execute_wrappers


def test_many_rows_may_be_the_first_statement(user):
    """They are sent one by one."""

    def work():
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO notifications_ring (user_id, origin) VALUES (%s, %s)", [(1, 7), (2, 7)]
            )

    retrying_atomic(work)
    assert scalar("SELECT count(*) FROM notifications_ring WHERE origin = 7") == 2


def test_a_cursor_of_the_server_may_be_the_first_statement(user):
    """It takes one statement: that of a hook that iterates over many rows, for example."""
    assert retrying_atomic(lambda: list(type(user).objects.iterator())) == [user]


def test_a_deferred_host_waits_for_the_lock(deferred, user):
    """Our transactions begin with a write: beside a writer they wait, also where reading first would fail at once."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        waiting = OtherConnection()
        try:
            going = waiting.start(
                retrying_atomic, lambda: (Stream.objects.count(), Stream.objects.create(user_id=7))
            )
            time.sleep(0.2)
            assert not going.done()
            writer.execute("INSERT INTO notifications_ring (user_id) VALUES (1)")
            writer.execute("COMMIT")
            going.result(60)
        finally:
            waiting.close()
    assert Stream.objects.filter(pk=7).exists()


def test_begin_with_a_write_takes_the_lock(deferred, user):
    """SQLite takes it for a statement that changes nothing."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0, isolation_level=None)) as other:
        with transaction.atomic():
            begin_with_write()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")


def test_writers_on_a_deferred_host(deferred, user):
    """Several at once: nobody fails, nothing is lost."""
    writers = [OtherConnection() for _ in range(4)]
    try:
        going = [writer.start(lambda: [notify(user, "note") for _ in range(25)]) for writer in writers]
        for one in going:
            one.result(60)
    finally:
        for writer in writers:
            writer.close()
    assert Notification.objects.count() == 100
    assert_consistent([user])


def test_a_host_that_has_every_statement_prepared(user, monkeypatch):
    """PostgreSQL prepares no two at once."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite prepares nothing by option.")
    options = {**connection.settings_dict["OPTIONS"], "server_side_binding": True, "prepare_threshold": 0}
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "OPTIONS", options)
        connection.close()
        try:
            notify(user, "note")
            assert execute_one("SELECT %s::text", ["x"]) == [("x",)]
            assert scalar("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql") > 0
        finally:
            connection.close()
    assert_consistent([user])


def test_a_deadlock_with_the_host_is_tried_again(user):
    """PostgreSQL ends one of the two; ours is done again from the start."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock.")
    first, second = (Stream.objects.create(user_id=key).user_id for key in (101, 102))
    host = OtherConnection()
    try:
        host.begin()
        host.do(Stream.objects.filter(pk=second).update, floor=1)
        host.do(scalar, "SELECT set_config('deadlock_timeout', '60s', true)")
        attempts = []

        def work():
            attempts.append(True)
            if len(attempts) == 2:
                pending[0].result(60)
                host.commit()
            Stream.objects.filter(pk=first).update(floor=2)
            if len(attempts) == 1:
                pending.append(host.start(Stream.objects.filter(pk=first).update, floor=1))
                host.wait_until_blocked()
            Stream.objects.filter(pk=second).update(floor=2)

        pending = []
        retrying_atomic(work)
        assert len(attempts) == 2
    finally:
        host.close()


def test_a_thread_without_a_connection_is_in_no_transaction(monkeypatch):
    """It is told so without a connection: what waits for a database that is away asks each time."""
    connection.close()
    monkeypatch.setattr(connection, "connect", lambda: pytest.fail("It has connected."))
    assert not in_callers_transaction()


def test_a_session_that_is_read_only(on_postgres):  # noqa: F811
    """It answers queries. The next call has another one."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    with pytest.raises(OperationalError, match="read-only transaction"):
        try_write()
    try_write()


def test_a_session_of_sqlite_that_is_read_only():
    """As one that was opened while the disk was mounted read-only."""
    if connection.vendor != "sqlite":
        pytest.skip("It is SQLite's file.")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = 1")
    before = connection.connection
    with pytest.raises(OperationalError, match="readonly database"):
        try_write()
    if connection.is_in_memory_db():
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = 0")
    else:
        assert connection.connection is not before
    try_write()


def test_an_outage_in_a_transaction(tmp_path, db):
    """Another error takes the place of that of the driver, and is still one of the app's database."""
    view = exceptions_as_problems(
        lambda request: transactions.retrying(make_away("default", tmp_path).cursor)
    )
    assert view(RequestFactory().get("/")).status_code == 503

"""Statements that PostgreSQL plans once for each connection."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.db import prepared
from notifications.db.prepared import execute_prepared
from tests.data.conftest import scalar

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = "INSERT INTO numbers (number) VALUES (%s) RETURNING number"


@pytest.fixture(autouse=True)
def table(transactional_db):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's driver caches statements by itself.")
    connection.close()
    execute("CREATE TABLE numbers (number int, text varchar(9) DEFAULT 'x')")
    yield
    connection.close()
    execute("DROP TABLE numbers")


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def run(sql, *params):
    """Return the rows of a statement, and how often PREPARE and EXECUTE were sent, and all queries."""
    with CaptureQueriesContext(connection) as queries:
        rows = execute_prepared(sql, params, table="numbers")
    sent = " ".join(query["sql"] for query in queries.captured_queries)
    return rows, sent.count("PREPARE"), sent.count("EXECUTE"), len(queries)


def test_it_is_prepared_once_for_each_connection():
    """In one round trip, READ COMMITTED, with other parameters each time, and with literal percent signs."""
    sql = "SELECT %s::int, 'a' LIKE 'a%%', current_setting('transaction_isolation')"
    assert run(sql, 1) == ([(1, True, "read committed")], 1, 1, 1)
    assert run(sql, 2) == ([(2, True, "read committed")], 0, 1, 1)
    connection.close()
    assert run(sql, 3) == ([(3, True, "read committed")], 1, 1, 1)
    with transaction.atomic():
        assert run(sql, 4)[:3] == ([(4, True, "read committed")], 0, 0)


@pytest.mark.parametrize("lost", ["of another session", "prepared by another client", "of another type"])
def test_a_session_that_loses_statements_prepares_none(lost):
    """As behind a pooler in transaction mode, and after a migration. The statement is executed once."""
    sql = INSERT + ", text"
    if lost == "prepared by another client":
        assert run(sql, 1)[1:] == (1, 1, 1)
        del vars(connection.connection)["_notifications_prepared"]
    else:
        assert run(sql, 1)[1:] == (1, 1, 1)
        execute("DEALLOCATE ALL" if "session" in lost else "ALTER TABLE numbers ALTER text TYPE varchar(8)")
    assert run(sql, 2) == ([(2, "x")], int("client" in lost), 1, 2)
    assert run(sql, 3) == ([(3, "x")], 0, 0, 1)
    assert scalar("SELECT array_agg(number ORDER BY number) FROM numbers") == [1, 2, 3]


def test_other_errors_are_raised():
    """The next execution uses the prepared statement."""
    assert run("SELECT 1 / %s::int", 1) == ([(1,)], 1, 1, 1)
    with pytest.raises(prepared.DatabaseError, match="division by zero"):
        run("SELECT 1 / %s::int", 0)
    assert run("SELECT 1 / %s::int", 1) == ([(1,)], 0, 1, 1)


def test_the_number_of_statements_is_limited():
    """The first ones stay prepared."""
    for number in range(prepared.MAX_STATEMENTS):
        assert run(f"SELECT {number}, %s", "x")[1] == 1
    assert run("SELECT 'one more', %s", "x") == ([("one more", "x")], 0, 0, 1)
    assert run("SELECT 0, %s", "x")[1:] == (0, 1, 1)


def test_a_plan_is_made_again_when_the_table_has_doubled():
    """Once for each doubling."""
    plans = "SELECT sum(generic_plans) FROM pg_prepared_statements"
    assert [run(INSERT, 1)[3], run(INSERT, 1)[3]] == [1, 1]
    execute("INSERT INTO numbers SELECT generate_series(1, 20000)")
    assert run(INSERT, 1)[3] == 2
    assert run(INSERT, 1)[3] == 1
    assert scalar(plans) == 4

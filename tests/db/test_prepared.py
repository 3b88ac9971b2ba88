"""Statements that are planned once on a connection to PostgreSQL."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.db import prepared
from notifications.db.prepared import MIN_REPEATS, execute_repeated
from notifications.ids import uuid7
from notifications.jobs.claiming.executors import PROJECT_EXECUTORS
from notifications.jobs.claiming.sources import builtin_source
from notifications.jobs.transitions import claims
from tests.data.conftest import scalar
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'notifications%%'"


@pytest.fixture(autouse=True)
def on_postgres(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no prepared statements by name.")
    monkeypatch.setattr(prepared._Process, "can_prepare", True)
    connection.close()
    yield
    connection.close()


def test_what_is_repeated_is_prepared():
    """Not what is sent now and then, and of each connection no more than it may have."""
    for number in range(MIN_REPEATS + 3):
        assert execute_repeated("SELECT %s, 7 %% 4, 'a%%'", ["x%s"]) == [("x%s", 3, "a%")]
        assert scalar(COUNT) == (number >= MIN_REPEATS)
    for number in range(prepared.MAX_COUNTED + 5):
        assert execute_repeated("SELECT %s", [-number]) == [(-number,)]
    assert scalar(COUNT) == 1
    for text in range(prepared.MAX_PREPARED + 3):
        for _ in range(MIN_REPEATS + 2):
            assert execute_repeated("SELECT %s", [text]) == [(text,)]
    assert scalar(COUNT) == prepared.MAX_PREPARED


def test_a_server_without_the_statement():
    """A pooler has given this connection another session: nothing is prepared any more, in this process."""
    for _ in range(MIN_REPEATS + 1):
        execute_repeated("SELECT 1", [])
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    for _ in range(MIN_REPEATS + 2):
        assert execute_repeated("SELECT 1", []) == [(1,)]
    assert scalar(COUNT) == 0


def test_a_callers_transaction():
    with transaction.atomic():
        for _ in range(MIN_REPEATS + 2):
            assert execute_repeated("SELECT 1", []) == [(1,)]
    assert scalar(COUNT) == 0


def test_claims_of_an_idle_worker():
    """It claims one job after the other, each once, by a plan that reads no table of jobs as a whole."""
    worker = uuid7()

    def claim():
        capacities = dict.fromkeys(PROJECT_EXECUTORS, 10)
        timeouts = {"tests.jobs.tasks.noop": 60.0}
        found = claims.claim_jobs(
            worker, 10, source=builtin_source(), timeouts=timeouts, executors=capacities
        )
        return [str(claimed.row.id) for claimed in found]

    for _ in range(MIN_REPEATS + 1):
        id = tasks.noop.enqueue().id
        assert claim() == [id] and claim() == []
    id = tasks.noop.enqueue().id
    with CaptureQueriesContext(connection) as queries:
        assert claim() == [id]
    (sql,) = [query["sql"] for query in queries.captured_queries if "EXECUTE" in query["sql"]]
    name = sql.rpartition(" ")[2]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"{prepared._PLANNING}; EXPLAIN EXECUTE {name}")
        while cursor.nextset():
            pass
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan on notifications_job" not in plan and "JIT" not in plan

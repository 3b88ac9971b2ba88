"""What jobs do to the threads and sessions of their database work reaches no other job."""

import asyncio
import decimal
import json
import threading

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection, connections
from django.db.backends.signals import connection_created
from django.utils import timezone, translation

from notifications.api import anotify, task
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.jobs.tasks import gate as slow_gate
from tests.jobs.tasks import held
from tests.support.waiting import wait_until

#: What may be set in a session: how, how it is read, for each database.
SETTINGS = {
    "sqlite": {
        "query_only": ("PRAGMA query_only = 1", "PRAGMA query_only"),
        "busy_timeout": ("PRAGMA busy_timeout = 7", "PRAGMA busy_timeout"),
        "temporary table": (
            "CREATE TEMP TABLE left_by_job AS SELECT 1",
            "SELECT count(*) FROM sqlite_temp_master WHERE name = 'left_by_job'",
        ),
    },
    "postgresql": {
        "search_path": ("SET search_path TO pg_catalog", "SHOW search_path"),
        "statement_timeout": ("SET statement_timeout TO 54321", "SHOW statement_timeout"),
        "time zone": ("SET TIME ZONE 'Asia/Tokyo'", "SHOW timezone"),
        "read-only": (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SHOW default_transaction_read_only",
        ),
        "role": ("SET ROLE pg_monitor", "SELECT current_user"),
        "by a function": (
            "SELECT set_in_session('statement_timeout', '54321')",
            "SHOW statement_timeout",
        ),
        "temporary table": (
            "CREATE TEMP TABLE left_by_job AS SELECT 1",
            "SELECT count(*) FROM pg_class WHERE relname = 'left_by_job'",
        ),
        "advisory lock": (
            "SELECT 1 FROM pg_advisory_lock(97531)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 97531",
        ),
    },
}


def query(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0]) if cursor.description else ""


@task
async def run_statement(sql):
    return await sync_to_async(query)(sql)


@task
def run_statement_sync(sql):
    return query(sql)


@task
async def run_statement_past_django(sql):
    """Run it on the connection of the driver."""

    def run():
        connection.ensure_connection()
        connection.connection.execute(sql)

    await sync_to_async(run)()


@task
def set_attribute_sync(name):
    before = getattr(connection, name, None)
    setattr(connection, name, "of this job")
    connection.ensure_connection()
    return before


@task
async def set_attribute(name):
    return await sync_to_async(set_attribute_sync.func)(name)


@task
async def set_then_read(setting, sql):
    """Set something, and read it in a later call, when all other jobs have set it too."""
    await sync_to_async(query)(setting)
    held.append(1)
    while not slow_gate.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return await sync_to_async(query)(sql)


def set_all():
    """Set what a thread or a context has, and return what was set before."""
    before = [
        translation.get_language(),
        timezone.get_current_timezone_name(),
        decimal.getcontext().prec,
        decimal.getcontext().rounding,
    ]
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    decimal.getcontext().prec = 3
    decimal.setcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP))
    return before


@task
async def set_in_async_task():
    return set_all()


@task
async def set_in_thread_of_async_task():
    return await sync_to_async(set_all)()


@task
def set_in_sync_task():
    return set_all()


@task
async def iterate_over_users():
    """Iterate in chunks, between which other jobs use the database."""
    names = []
    async for user in get_user_model().objects.order_by("pk").aiterator(chunk_size=1):
        names.append(user.username)
        if len(names) == 1:
            held.append(1)
            while not slow_gate.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    return names


def wait_for_gate():
    held.append(threading.current_thread().name)
    return slow_gate.wait(60)


@task
async def call_slow_function():
    return await sync_to_async(wait_for_gate)()


@task
async def notify_by_app(user):
    await anotify(user, "By the app")


#: More jobs than there are threads for the short calls of all.
MANY = 12


def results_of(results):
    jobs = until_done(*results)
    assert not [job.error for job in jobs if job.state != "succeeded"]
    return [json.loads(job.result) for job in jobs]


def live_threads():
    return [
        thread.name for thread in threading.enumerate() if thread.name.startswith("notifications-database")
    ]


@pytest.fixture
def postgres_pool(db):
    """The connections of new threads are of a pool of Django's."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no pool.")
    options = connections.settings["default"]["OPTIONS"]
    options["pool"] = {"min_size": 1, "max_size": 6}
    yield
    connections.create_connection("default").close_pool()
    del options["pool"]


@pytest.fixture
def sets_by_function(db):
    """A function in the database that sets something in the session of its caller."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION set_in_session(name text, value text) RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN set_config(name, value, false); END $$"
        )


class TestState:
    def test_what_a_job_sets_in_its_session(self, worker, sets_by_function):
        """A search path, a time limit, a role, read-only, a temporary table, a lock: whoever owns the next job."""
        for name, (change, read) in SETTINGS[connection.vendor].items():
            before = results_of([run_statement.enqueue(read)])
            results_of([run_statement.enqueue(change) for _ in range(MANY)])
            after = results_of([run_statement.enqueue(read) for _ in range(3 * MANY)])
            assert set(after) == set(before), name

    def test_what_a_job_sets_past_django(self, worker, sets_by_function):
        for name, (change, read) in SETTINGS[connection.vendor].items():
            before = results_of([run_statement.enqueue(read)])
            results_of([run_statement_past_django.enqueue(change) for _ in range(MANY)])
            after = results_of([run_statement.enqueue(read) for _ in range(3 * MANY)])
            assert set(after) == set(before), name

    @pytest.mark.parametrize("attribute_task", [set_attribute, set_attribute_sync])
    def test_what_a_job_sets_on_the_connection_of_django(self, worker, attribute_task):
        """As django-tenants does: the tenant is an attribute of the connection."""
        for _ in range(3):
            assert set(results_of([attribute_task.enqueue("tenant") for _ in range(MANY)])) == {None}

    @pytest.mark.parametrize("kind", ["async_task", "thread_of_async_task", "sync_task"])
    def test_what_a_job_sets_in_its_thread_or_context(self, worker, kind):
        """The language, the time zone and the context of decimals are those of a new context."""
        task = globals()[f"set_in_{kind}"]
        found = results_of([task.enqueue() for _ in range(3 * MANY)])
        assert {tuple(each) for each in found} == {("en", "UTC", 28, "ROUND_HALF_EVEN")}

    def test_a_session_is_that_of_its_job_until_it_ends(self, worker, gate):
        """What a job has set is there in its later calls, however many others use the database in between."""
        change, read = {
            "sqlite": ("PRAGMA cache_size = {}", "PRAGMA cache_size"),
            "postgresql": ("SET statement_timeout TO '{}min'", "SHOW statement_timeout"),
        }[connection.vendor]
        results = [set_then_read.enqueue(change.format(n), read) for n in range(1, MANY + 1)]
        wait_until(lambda: len(tasks.held) == MANY, what="all jobs to have set it")
        neighbors = [tasks.count_users_async.enqueue() for _ in range(3 * MANY)]
        results_of(neighbors)
        gate.set()
        unit = "min" if connection.vendor == "postgresql" else ""
        assert set(results_of(results)) <= {f"{n}{unit}" for n in range(1, MANY + 1)} | {"1h"}
        assert len(set(results_of(results))) == MANY

    def test_an_iteration_in_chunks(self, worker, gate):
        """Its cursor stays open between two chunks."""
        for number in range(3):
            get_user_model().objects.create(username=f"user{number}")
        results = [iterate_over_users.enqueue() for _ in range(MANY)]
        wait_until(lambda: len(tasks.held) == MANY, what="all jobs to iterate")
        results_of([tasks.count_users_async.enqueue() for _ in range(3 * MANY)])
        gate.set()
        assert all(len(names) >= 3 for names in results_of(results))


class TestConnections:
    def test_a_pool(self, postgres_pool, start_worker):
        """A connection in whose session something was set does not go back to the pool of Django's."""
        start_worker()
        change, read = SETTINGS["postgresql"]["search_path"]
        before = results_of([run_statement.enqueue(read)])
        for kind in (run_statement, run_statement_sync):
            results_of([kind.enqueue(change) for _ in range(MANY)])
            assert set(results_of([kind.enqueue(read) for _ in range(3 * MANY)])) == set(before)

    def test_persistent_connections(self, monkeypatch, start_worker):
        """With a CONN_MAX_AGE a session stays as it is, as between two requests."""
        monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 600)
        start_worker()
        change, read = {
            "sqlite": ("PRAGMA busy_timeout = 7", "PRAGMA busy_timeout"),
            "postgresql": ("SET statement_timeout TO '7s'", "SHOW statement_timeout"),
        }[connection.vendor]
        results_of([run_statement.enqueue(change)])
        assert results_of([run_statement.enqueue(read)]) in (["7"], ["7s"])


class TestCost:
    def test_a_job_without_sql_of_its_own_keeps_the_session(self, worker, user):
        """What the app itself does in a job changes nothing in a session."""
        opened = []

        def count(connection, **kwargs):
            if threading.current_thread().name.startswith("notifications-database"):
                opened.append(threading.current_thread().name)

        connection_created.connect(count)
        try:
            for _ in range(5):
                results_of([notify_by_app.enqueue(user.pk)])
        finally:
            connection_created.disconnect(count)
        assert len(opened) == len(set(opened))


class TestSlowCalls:
    def test_they_hold_up_no_other_job(self, start_worker, gate):
        """More slow calls than threads, whose other jobs query the database meanwhile."""
        start_worker(concurrency=100)
        slow = [call_slow_function.enqueue() for _ in range(2 * MANY)]
        wait_until(lambda: len(tasks.held) == 2 * MANY, what="all slow calls to run")
        neighbors = [tasks.count_users_often.enqueue(3) for _ in range(2 * MANY)]
        results_of(neighbors)
        assert len(live_threads()) <= 2 * MANY + 8
        gate.set()
        assert set(results_of(slow)) == {True}
        wait_until(lambda: len(live_threads()) <= 8, what="the additional threads to end")

    def test_short_calls_share_eight_threads(self, worker):
        results_of([tasks.thread_name.enqueue() for _ in range(64)])
        assert len(live_threads()) <= 8

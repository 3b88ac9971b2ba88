"""What each code of the table does, raised by a real server: in a claim, a record, a request, a duty, a notification.

A trigger raises the codes that a test cannot have the server raise otherwise.
"""

from contextlib import contextmanager

import pytest
from django.db import Error, OperationalError, connection, transaction

from notifications.api import notify
from notifications.db import UNAVAILABLE, is_unavailable, retrying_atomic
from notifications.db.sqlstates import SQLSTATES, Meaning, is_not_migrated, sqlstate_of
from notifications.extension import Duty, Upkeep, Where
from notifications.models import DutyRun, Job, Notification, Ring
from tests.http.conftest import assert_problem
from tests.http.test_idempotency import post
from tests.jobs import tasks
from tests.jobs.conftest import gate, longest_backoff, start_worker, until_state, worker  # noqa: F401 (fixtures)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Codes that the table does not have, of which the class of the exception does not say what they mean.
UNLISTED = ["0A000", "72000", "XX000", "XX001", "MY001"]
#: Full codes for the classes in the table, and some that the table does not have.
CODES = [
    *("08006", "54000", "53100", "22001", "P0001", *UNLISTED),
    *(code for code in SQLSTATES if len(code) == 5),
]
TEMPORARY = set(CODES) - {"54000", "22001", "P0001"}
CLOSING = {
    *("08006", "25006", "25P03", "25P04", "26000", "42P05", *UNLISTED),
    *("57P01", "57P02", "57P03", "57P04", "57P05"),
}

#: Those of them that are about no value.
LISTED_TEMPORARY = TEMPORARY - set(UNLISTED)
#: A row that becomes a success or a failure. A sequence counts them, also those of transactions that are rolled back.
ENDS = "NEW.state IN ('succeeded', 'failed') AND nextval('tries_{}') > 0"


@pytest.fixture
def on_postgres():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no SQLSTATE.")


@pytest.fixture
def short_retries(set_bounds):
    set_bounds(busy=0.02)


@contextmanager
def raises(code, table, event, condition="true"):
    """Have the server raise a code for each such row in this block."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN RAISE EXCEPTION 'failed' USING ERRCODE = '{code}'; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER fail BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION fail()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER fail ON {table}")


def query(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def backend():
    return query("SELECT pg_backend_pid()")


def test_a_transaction_of_the_app(on_postgres, short_retries, user):
    """The class says what all callers do, and a connection to which the error belongs is closed."""
    found = {}
    for code in CODES:
        before = backend()
        with raises(code, "notifications_ring", "INSERT"), pytest.raises(Error) as raised:
            retrying_atomic(lambda: Ring.objects.create(user=user))
        exc = raised.value
        assert sqlstate_of(exc) == code
        # Of an error that the value causes, the class may be that of a server that is away.
        is_temporary = isinstance(exc, UNAVAILABLE) and is_unavailable(exc)
        found[code] = Meaning(is_temporary, backend() != before)
    assert found == {code: Meaning(code in TEMPORARY, code in CLOSING) for code in CODES}


def test_a_transaction_of_the_project(on_postgres, user):
    """It sees the error itself. The connection is closed at the end of the transaction or of the request."""
    closed = set()
    for code in CODES:
        before = backend()
        with raises(code, "notifications_notification", "INSERT"):
            with pytest.raises(Error) as raised, transaction.atomic():
                connection.close_at = None  # as with persistent connections
                notify(user, "Hello")
            assert sqlstate_of(raised.value) == code
            connection.close_if_unusable_or_obsolete()
            if backend() != before:
                closed.add(code)
    assert closed == CLOSING
    assert not Notification.objects.exists()


@pytest.mark.timeout(300)
def test_a_worker(on_postgres, short_retries, worker, user):  # noqa: F811
    """A claim is tried again. So is the record of an outcome, unless its value is the cause."""
    states = {}
    for code in CODES:
        with raises(code, "notifications_job", "UPDATE", "NEW.state = 'running' AND OLD.state = 'queued'"):
            claimed = tasks.add.using(owner=user).enqueue(1, 2)
            claims = worker.worker.state.claim_writer
            with pytest.raises(Error):
                worker.call(claims.run(worker.worker._claim_loop._claim))
        until_state(claimed, "succeeded")
        with raises(code, "notifications_job", "UPDATE", "NEW.state = 'succeeded'"):
            recorded = tasks.add.using(owner=user).enqueue(1, 2)
            if code in LISTED_TEMPORARY:
                wait_until(lambda: not worker.worker._record_loop.is_empty)
            else:
                until_state(recorded, "failed")
        job = until_state(recorded, "succeeded" if code in LISTED_TEMPORARY else "failed")
        states[code] = job.attempt
    assert states == dict.fromkeys(CODES, 1)


@pytest.mark.timeout(300)
def test_an_outcome_of_which_a_failure_is_refused_too(on_postgres, short_retries, worker, set_bounds):  # noqa: F811
    """No value is at fault, so it is kept and recorded later, whatever the code is. No job runs twice."""
    set_bounds(polls=0.1)
    jobs, codes = {}, set(CODES) - LISTED_TEMPORARY
    for code in codes:
        tries = f"SELECT last_value FROM tries_{code.lower()}"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SEQUENCE tries_{code.lower()}")
        with raises(code, "notifications_job", "UPDATE", ENDS.format(code.lower())):
            result = tasks.add.enqueue(1, 2)
            wait_until(lambda tries=tries: query(tries) > 6, what=f"tries to record with {code}")
            assert Job.objects.get(id=result.id).state == "running"
        jobs[code] = result
    attempts = {code: until_state(result, "succeeded").attempt for code, result in jobs.items()}
    assert attempts == dict.fromkeys(codes, 1)


def test_a_request(on_postgres, short_retries, user_client, settings):
    settings.ROOT_URLCONF = "tests.http.views"
    user_client.raise_request_exception = False
    for code in CODES:
        with raises(code, "notifications_job", "INSERT"):
            if code in TEMPORARY:
                assert_problem(post(user_client, "/plain/", key={}), 503)
            else:
                assert post(user_client, "/plain/", key={}).status_code == 500
        assert post(user_client, "/plain/", key={}).status_code == 202


def test_a_duty(on_postgres, short_retries):
    """The round ends, and the next one does the duty."""
    for code in TEMPORARY:
        process, runs = Upkeep(Where.LASTING, seconds=0), []
        process.duties = [Duty("sweep", 60, lambda runs=runs: runs.append(1))]
        with raises(code, "notifications_dutyrun", "INSERT"), pytest.raises(UNAVAILABLE):
            process.run_round()
        process.duties[0].due_at = 0
        process.run_round()
        assert DutyRun.objects.filter(name="sweep").delete()[0]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 FROM notifications_deliveries_gone", False),
        ("SELECT 1 FROM shop_order", False),
        ("SELECT notifications_job.gone FROM notifications_job", True),
        ("SELECT auth_user.title FROM auth_user", False),
        ("INSERT INTO notifications_job (gone) VALUES (1)", True),
        ("INSERT INTO auth_user (title) VALUES ('x')", False),
        ("SELECT gone FROM auth_user", False),
    ],
)
def test_what_is_not_migrated(sql, expected):
    """A table or a column of the app and its extensions, not of another one: to that `migrate` may bring nothing."""
    with pytest.raises(Error) as raised, connection.cursor() as cursor:
        cursor.execute(sql)
    assert is_not_migrated(raised.value) == is_unavailable(raised.value) == expected


@pytest.mark.parametrize(
    "table",
    [
        "notifications_ring",
        pytest.param(
            "notifications_deliveries_delivery",
            marks=pytest.mark.with_all_apps("A table of an optional app is missing."),
        ),
    ],
)
def test_a_table_that_is_not_migrated(table):
    with (
        transaction.atomic(),
        pytest.raises(Error) as raised,
        connection.cursor() as cursor,
        transaction.atomic(),
    ):
        cursor.execute(f"ALTER TABLE {table} RENAME TO gone")
        cursor.execute(f"SELECT 1 FROM {table}")
    assert is_not_migrated(raised.value) and is_unavailable(raised.value)


class ServerError(Exception):
    sqlstate = "54001"


def test_a_code_of_a_listed_class():
    """A value that exceeds a limit of the server is no outage, whatever the class of the error says."""
    error = OperationalError("stack depth limit exceeded")
    error.__cause__ = ServerError()
    assert not is_unavailable(error)

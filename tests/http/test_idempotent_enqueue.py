"""Concurrent requests with one Idempotency-Key: one enqueues a job, the others are replays."""

from functools import partial
from itertools import count
from threading import Barrier, Event

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction

from notifications.models import Job
from tests.http import views
from tests.http.conftest import assert_problem
from tests.http.test_idempotency import KEY, count_rows, post
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


@pytest.fixture
def isolation(request):
    """Set the isolation level of the project on PostgreSQL, for threads that start from now on."""
    if request.param and connection.vendor != "postgresql":
        pytest.skip("SQLite has one isolation level.")
    # A command that ran in this thread may have given its connection options of its own: notifications/db/deadlines.py.
    options = connections.settings["default"]["OPTIONS"]
    before = dict(options)
    if request.param:
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        options["isolation_level"] = IsolationLevel[request.param]
    yield request.param
    options.clear()
    options.update(before)
    connection.close()


@pytest.fixture
def concurrent_enqueue(monkeypatch):
    """Let both requests enqueue before one of them commits. On SQLite only one can begin."""
    barrier, calls = Barrier(2), count()
    enqueue_double = views.enqueue_double

    def enqueue():
        result = enqueue_double()
        if connection.vendor == "postgresql" and next(calls) < 2:
            barrier.wait(20)
        return result

    monkeypatch.setattr(views, "enqueue_double", enqueue)


@pytest.fixture
def post_concurrently(client_of, user):
    """Return a function that posts bodies with one key at the same time. It returns the responses, the replay last."""

    def post_bodies(*bodies):
        responses = []
        clients = [client_of(user, raise_request_exception=False) for _ in bodies]

        def send(client, body):
            responses.append(post(client, body=body))

        run_in_threads(*[partial(send, *pair) for pair in zip(clients, bodies, strict=True)])
        return sorted(responses, key=lambda each: (each.status_code, "Idempotency-Replayed" in each))

    return post_bodies


@pytest.mark.parametrize("isolation", ["", "REPEATABLE_READ", "SERIALIZABLE"], indirect=True)
def test_second_request_is_a_replay(isolation, concurrent_enqueue, post_concurrently, user_client, rings):
    """The row of the second request is rolled back, and it does not ring the doorbell."""
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code) == (202, 202), (first.content, second.content)
    assert first.json()["id"] == second.json()["id"]
    assert "Idempotency-Replayed" not in first and second["Idempotency-Replayed"] == "true"
    assert count_rows() == (1, 1)
    assert len(rings) == 1
    assert post(user_client, body="a")["Idempotency-Replayed"] == "true"


def test_second_request_with_another_body(concurrent_enqueue, post_concurrently):
    """422, and nothing of the second request is stored."""
    first, second = post_concurrently("a", "b")
    assert first.status_code == 202
    assert_problem(second, 422)
    assert count_rows() == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
def test_unique_row_conflicts_before_the_key(atomic, monkeypatch, post_concurrently, user_client):
    """Both insert an equal unique row. The IntegrityError of the second one must not hide the replay."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    barrier, calls = Barrier(2), count()

    def enqueue():
        if connection.vendor == "postgresql" and next(calls) < 2:
            barrier.wait(20)
        Group.objects.create(name="only one")
        return views.double.enqueue()

    monkeypatch.setattr(views, "enqueue_double", enqueue)
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert count_rows() == (1, 1)
    assert post(user_client, body="a", key={}).status_code == 500


@pytest.mark.parametrize("limit", ["ACTIVE_JOBS_PER_USER", "JOBS_PER_MINUTE"])
def test_limit_is_reached_before_the_key_conflicts(
    limit, monkeypatch, settings, post_concurrently, user_client
):
    """The job of the first request reaches the limit. The second one is a replay, not a 429."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, limit: 1}
    enqueue_in_turn(monkeypatch, views.enqueue_double)
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert count_rows() == (1, 1)
    assert post(user_client, body="b", key={}).status_code == 429


def test_project_raises_before_the_key_conflicts(monkeypatch, post_concurrently, user_client):
    """The project raises an error of its own because it sees the rows of the first request."""

    def enqueue():
        if Group.objects.exists():
            raise LookupError("A group exists.")
        return enqueue_double()

    enqueue_double = views.enqueue_double
    enqueue_in_turn(monkeypatch, enqueue)
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert post(user_client, body="b", key={}).status_code == 500
    assert count_rows() == (1, 1)


def enqueue_in_turn(monkeypatch, enqueue):
    """Let both requests search for the key, then one enqueue and commit before the other enqueues."""
    both_have_searched, first_has_committed, calls = Barrier(2), Event(), count()

    def enqueue_after_first():
        number = next(calls)
        if connection.vendor == "postgresql" and number < 2:
            both_have_searched.wait(20)
        if number > 0:
            first_has_committed.wait(20)
        else:
            transaction.on_commit(first_has_committed.set)
        return enqueue()

    monkeypatch.setattr(views, "enqueue_double", enqueue_after_first)


@pytest.mark.parametrize("isolation", ["REPEATABLE_READ"], indirect=True)
def test_unique_row_that_an_older_snapshot_does_not_see(
    isolation, monkeypatch, post_concurrently, user_client
):
    """503 in a transaction of the project. Sent again, the request is a replay."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    barrier, calls = Barrier(2), count()

    def enqueue():
        if next(calls) < 2:
            barrier.wait(20)
        Group.objects.create(name="only one")
        return views.double.enqueue()

    monkeypatch.setattr(views, "enqueue_double", enqueue)
    first, second = post_concurrently("a", "a")
    assert first.status_code == 202
    assert_problem(second, 503)
    assert post(user_client, body="a")["Idempotency-Replayed"] == "true"
    assert count_rows() == (1, 1)


@pytest.mark.parametrize("isolation", ["", "REPEATABLE_READ"], indirect=True)
def test_in_a_transaction_of_the_project(
    isolation, monkeypatch, concurrent_enqueue, post_concurrently, user_client
):
    """With an older snapshot the second request gets 503. Sent again, it is a replay."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    first, second = post_concurrently("a", "a")
    assert first.status_code == 202 and "Idempotency-Replayed" not in first
    if isolation:
        assert_problem(second, 503)
        assert int(second["Retry-After"]) > 0
    else:
        assert (second.status_code, second["Idempotency-Replayed"]) == (202, "true")
    assert count_rows() == (1, 1)
    again = post(user_client, body="a")
    assert again["Idempotency-Replayed"] == "true" and again.json()["id"] == first.json()["id"]


def test_six_requests(client_of, user):
    responses = []
    clients = [client_of(user) for _ in range(6)]
    run_in_threads(*[lambda client=client: responses.append(post(client)) for client in clients])
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum("Idempotency-Replayed" in response for response in responses) == 5
    assert count_rows() == (1, 1) and Job.objects.get().idempotency_key.endswith(KEY["Idempotency-Key"])

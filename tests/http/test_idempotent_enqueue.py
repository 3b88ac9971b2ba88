"""Two requests with one Idempotency-Key at once: one asks, the other is answered as a replay."""

from functools import partial
from itertools import count
from threading import Barrier, Event

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from notifications.http import acceptance
from notifications.http.idempotency import IdempotencyKey
from notifications.models import Job, Ring
from tests.http import views
from tests.http.conftest import assert_problem
from tests.http.test_idempotency import KEY, counts, post
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def isolation(request):
    """The host's isolation level on PostgreSQL, for connections that are opened from now on."""
    if request.param and connection.vendor != "postgresql":
        pytest.skip("SQLite has one isolation level.")
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    if request.param:
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        options["isolation_level"] = IsolationLevel[request.param]
    yield request.param
    options.clear()
    options.update(before)
    connection.close()


@pytest.fixture
def both_ask(monkeypatch):
    """Neither ask returns before both have begun. SQLite lets only one begin."""
    barrier, asks = Barrier(2), count()
    asked = views.ask

    def ask():
        result = asked()
        if connection.vendor == "postgresql" and next(asks) < 2:
            barrier.wait(20)
        return result

    monkeypatch.setattr(views, "ask", ask)


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
def test_the_loser_is_a_replay(isolation, both_ask, post_concurrently, user_client):
    """Its own row is rolled back, and it rings for nobody."""
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code) == (202, 202), (first.content, second.content)
    assert first.json()["id"] == second.json()["id"]
    assert "Idempotency-Replayed" not in first and second["Idempotency-Replayed"] == "true"
    assert counts() == (1, 1)
    if connection.vendor == "sqlite":
        assert Ring.objects.count() == 2  # of the owner and of the queue, once
    assert post(user_client, body="a")["Idempotency-Replayed"] == "true"


def test_the_loser_with_another_body(both_ask, post_concurrently):
    """422, and of it nothing is stored."""
    first, second = post_concurrently("a", "b")
    assert first.status_code == 202
    assert_problem(second, 422)
    assert counts() == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
def test_the_loser_collides_before_its_key_does(atomic, monkeypatch, post_concurrently, user_client):
    """What the ask itself writes is unique: the loser hears that from its own row, and is a replay all the same."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    barrier, asks = Barrier(2), count()

    def ask():
        if connection.vendor == "postgresql" and next(asks) < 2:
            barrier.wait(20)
        Group.objects.create(name="there is one")
        return views.double.enqueue()

    monkeypatch.setattr(views, "ask", ask)
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert counts() == (1, 1)
    assert post(user_client, body="a", key={}).status_code == 500


@pytest.mark.parametrize("limit", ["ACTIVE_JOBS_PER_USER", "JOBS_PER_MINUTE"])
def test_the_loser_meets_a_limit_before_its_key(limit, monkeypatch, settings, post_concurrently, user_client):
    """The job of the other request is the one that fills it: a replay is never refused for that."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, limit: 1}
    one_after_the_other(monkeypatch, views.ask)
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert counts() == (1, 1)
    assert post(user_client, body="b", key={}).status_code == 429


def test_the_loser_fails_in_a_way_of_its_own(monkeypatch, post_concurrently, user_client):
    """As the project may, where it sees what the other has written."""

    def ask():
        if Group.objects.exists():
            raise LookupError("There is one.")
        return asked()

    asked = views.ask
    one_after_the_other(monkeypatch, ask)
    first, second = post_concurrently("a", "a")
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert post(user_client, body="b", key={}).status_code == 500
    assert counts() == (1, 1)


def one_after_the_other(monkeypatch, ask):
    """Both have looked for the key before one asks; the other goes on when that one has committed."""
    first_is_done, asks = Event(), count()
    monkeypatch.setattr(
        views, "ask", lambda: ask() if next(asks) == 0 else (first_is_done.wait(20), ask())[1]
    )
    both_looked, looks = Barrier(2), count()

    def looked(self, owner, find_job=IdempotencyKey.find_job):
        there = find_job(self, owner)
        if connection.vendor == "postgresql" and connection.in_atomic_block and next(looks) < 2:
            both_looked.wait(20)
        return there

    monkeypatch.setattr(IdempotencyKey, "find_job", looked)
    answer = acceptance._response

    def answered(*args):
        first_is_done.set()
        return answer(*args)

    monkeypatch.setattr(acceptance, "_response", answered)


@pytest.mark.parametrize("isolation", ["REPEATABLE_READ"], indirect=True)
def test_the_loser_collides_with_what_its_snapshot_has_not(
    isolation, monkeypatch, post_concurrently, user_client
):
    """In a transaction of the host: to be sent again, and then a replay."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    barrier, asks = Barrier(2), count()

    def ask():
        if next(asks) < 2:
            barrier.wait(20)
        Group.objects.create(name="there is one")
        return views.double.enqueue()

    monkeypatch.setattr(views, "ask", ask)
    first, second = post_concurrently("a", "a")
    assert first.status_code == 202
    assert_problem(second, 503)
    assert post(user_client, body="a")["Idempotency-Replayed"] == "true"
    assert counts() == (1, 1)


@pytest.mark.parametrize("isolation", ["", "REPEATABLE_READ"], indirect=True)
def test_in_a_transaction_of_the_host(isolation, monkeypatch, both_ask, post_concurrently, user_client):
    """Its snapshot may be older than the other request: then it is to be sent again, and is a replay."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    first, second = post_concurrently("a", "a")
    assert first.status_code == 202 and "Idempotency-Replayed" not in first
    if isolation:
        assert_problem(second, 503)
        assert int(second["Retry-After"]) > 0
    else:
        assert (second.status_code, second["Idempotency-Replayed"]) == (202, "true")
    assert counts() == (1, 1)
    again = post(user_client, body="a")
    assert again["Idempotency-Replayed"] == "true" and again.json()["id"] == first.json()["id"]


def test_many(client_of, user):
    """However many come at once."""
    answers = []
    clients = [client_of(user) for _ in range(6)]
    run_in_threads(*[lambda client=client: answers.append(post(client)) for client in clients])
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer for answer in answers) == 5
    assert counts() == (1, 1) and Job.objects.get().idempotency_key.endswith(KEY["Idempotency-Key"])

"""`api/health/`: what probes of a load balancer or an orchestrator read."""

import json
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from notifications.http import health_views
from notifications.models import Worker
from tests.jobs.conftest import live_worker  # noqa: F401 (a fixture)
from tests.support.statements import preceded
from tests.test_checks import unapplied_migration

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]

LIVE, READY = "/notifications/api/health/live/", "/notifications/api/health/ready/"


@pytest.fixture(autouse=True)
def check(monkeypatch, set_bounds):
    """Each test has its own check, and each request a finding of its own."""
    check = health_views.ReadinessCheck()
    monkeypatch.setattr(health_views, "_check", check)
    set_bounds(known=0.0)
    yield check
    for thread in check._executor.end():
        thread.join(30)


@contextmanager
def no_database():
    def fail():
        raise OperationalError("could not connect to 10.0.0.7 as secret_user")

    with preceded("", fail, times=None):
        yield


def test_live_reads_nothing(client):
    """It is 200 without a query, so that an outage of the database does not restart all servers."""
    with CaptureQueriesContext(connection) as queries:
        response = client.get(LIVE)
    assert (response.status_code, response.json(), len(queries)) == (200, {"status": "ok"}, 0)
    assert response.headers["Cache-Control"] == "no-store"


def test_ready_with_a_worker(live_worker):  # noqa: F811
    live_worker()
    response = Client().get(READY)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_ready_without_a_worker(live_worker, caplog):  # noqa: F811
    """503, also when its lease has ended or it is to stop; 200 for a load balancer that does not need one."""
    for worker in ({"seconds": -1}, {"request": "stop"}, {}):
        response = Client().get(READY)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "5"
        live_worker(**worker)
    Worker.objects.all().delete()
    assert Client().get(READY, {"worker": "0"}).status_code == 200
    assert caplog.text.count("Not ready because of the worker: no worker") == 1


def test_a_project_without_jobs_needs_no_worker(settings):
    settings.TASKS = {"default": {"BACKEND": f"{dummy_backend()}"}}
    assert Client().get(READY).status_code == 200


def dummy_backend():
    try:
        import django.tasks  # noqa: F401
    except ImportError:
        return "django_tasks.backends.dummy.DummyBackend"
    return "django.tasks.backends.dummy.DummyBackend"


def test_ready_without_a_database(monkeypatch, live_worker, caplog):  # noqa: F811
    """The reason is in the log, not in the response, which strangers read."""
    live_worker()
    with no_database():
        assert Client().get(LIVE).status_code == 200
        response = Client().get(READY)
        assert Client().get(READY, {"worker": "0"}).status_code == 503
    assert response.status_code == 503
    assert "10.0.0.7" not in response.content.decode() and "database" not in response.content.decode()
    assert "could not connect to 10.0.0.7" in caplog.text
    assert Client().get(READY).status_code == 200


def test_ready_with_pending_migrations(monkeypatch, live_worker):  # noqa: F811
    live_worker()
    with unapplied_migration():
        assert Client().get(READY).status_code == 503


def test_a_wrong_setting(settings, caplog):
    assert Client().get(LIVE).status_code == 200  # which imports the URLs
    settings.TASKS = {"default": {"BACKEND": "no.such.Backend"}}
    assert Client().get(READY).status_code == 503
    assert "Not ready because of the settings" in caplog.text


async def test_a_database_that_does_not_answer(set_bounds, check):
    """Requests get 503 in bounded time, and only one thread waits, however many requests there are."""
    import threading

    answer = threading.Event()
    calls = []

    def hang():
        calls.append(1)
        answer.wait(60)

    set_bounds(checks=0.1)
    with preceded("", hang):
        try:
            for _ in range(3):
                assert (await AsyncClient().get(READY)).status_code == 503
            assert len(calls) == 1
            assert (await AsyncClient().get(LIVE)).status_code == 200
        finally:
            answer.set()


def test_many_requests_share_a_finding(set_bounds, live_worker):  # noqa: F811
    """Strangers cannot make the server query more than once per MAX_AGE_SECONDS."""
    live_worker()
    set_bounds(known=3600.0)
    assert Client().get(READY).status_code == 200
    Worker.objects.all().delete()
    assert Client().get(READY).status_code == 200


@pytest.mark.parametrize("path", [LIVE, READY])
def test_other_requests(path, user_client):
    """Other methods get 405, wrong parameters 422; no session is read."""
    assert Client().post(path).status_code == 405
    assert Client().head(path).status_code in (200, 503)
    if path == READY:
        assert json.loads(Client().get(path, {"worker": "x"}).content)["status"] == 422
    response = user_client.get(path)
    session = getattr(response.wsgi_request, "session", None)  # A 503 leaves none to be saved.
    assert session is None or not session.accessed

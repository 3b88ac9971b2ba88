"""Who may send a request to the API, by which method and with which CSRF token."""

import uuid

import pytest
from django.db import OperationalError, connection, connections
from django.test import Client

from notifications.api import notify
from notifications.http import api_view
from notifications.models import Job
from tests.data.shapes import position
from tests.http.conftest import assert_problem, job_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

SYNC = "/notifications/api/sync/"
NOTIFICATIONS = "/notifications/api/notifications/"
READ = "/notifications/api/notifications/read/"
ANY_JOB = Job(id=uuid.UUID(int=7))


@pytest.fixture
def user_client(client_of, user):
    """Return a client of ``user`` whose CSRF tokens are checked."""
    return client_of(user, enforce_csrf_checks=True)


def test_methods_of_views():
    """A sync view says its method. An async one checks the request itself."""

    def view(request):
        pass

    async def async_view(request):
        pass

    for method, wrong in (("", view), ("POST", async_view)):
        with pytest.raises(TypeError, match="only a sync view takes a method"):
            api_view(method)(wrong)


@pytest.mark.parametrize("url", [SYNC, NOTIFICATIONS, job_url(ANY_JOB), job_url(ANY_JOB, "result/")])
def test_signed_out(url, transactional_db):
    """401, not a redirect to the login page."""
    assert "Sign in" in assert_problem(Client().get(url), 401)["detail"]
    assert_problem(Client().post(url), 401)


def test_user_is_checked_before_the_csrf_token(transactional_db):
    """A signed-out client gets 401, not 403: a new token would not help."""
    assert_problem(Client(enforce_csrf_checks=True).post(READ, "{}", content_type="application/json"), 401)


def test_exempt_from_login_required_middleware(transactional_db, settings):
    """The middleware would redirect to the login page."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert_problem(Client().get(SYNC), 401)


@pytest.mark.parametrize(
    ("method", "url", "allow"),
    [
        ("post", SYNC, "GET, HEAD"),
        ("delete", NOTIFICATIONS, "GET, HEAD"),
        ("get", READ, "POST"),
        ("put", READ, "POST"),
    ],
)
def test_method_not_allowed(method, url, allow, user_client):
    response = getattr(user_client, method)(url)
    assert_problem(response, 405)
    assert response["Allow"] == allow


def test_head(user_client):
    response = user_client.head(SYNC)
    assert (response.status_code, response.content) == (200, b"")


def test_csrf_token_missing(user_client, user):
    """403 that tells in which header to send the token."""
    notify(user, "note")
    response = user_client.post(READ, '{"up_to": 1}', content_type="application/json")
    remedy = "Send the value of the cookie csrftoken in the header X-Csrftoken."
    assert assert_problem(response, 403)["detail"].endswith(remedy)
    assert position(user) == (1, 1)


def test_csrf_settings_of_the_project(user_client, settings):
    """The error names the project's header and cookie, or the form field. For a foreign origin no token helps."""
    settings.CSRF_HEADER_NAME, settings.CSRF_COOKIE_NAME = "HTTP_X_OFFICE_TOKEN", "office"

    def refused(**headers):
        response = user_client.post(READ, '{"up_to": 0}', content_type="application/json", headers=headers)
        return assert_problem(response, 403)["detail"]

    remedy = "Send the value of the cookie office in the header X-Office-Token."
    assert refused() == f"CSRF cookie not set. {remedy}"
    user_client.cookies["office"] = "a" * 32
    assert refused() == f"CSRF token missing. {remedy}"
    assert refused(origin="https://other.example").endswith("or of an origin in CSRF_TRUSTED_ORIGINS.")
    settings.CSRF_USE_SESSIONS = True
    remedy = "Send the csrfmiddlewaretoken of a form in the header X-Office-Token."
    assert refused() == f"CSRF cookie not set. {remedy}"


def test_csrf_token_in_an_unreadable_form(user_client):
    """The form is parsed for its token. An error is a problem document, not an HTML page or a 500."""
    user_client.cookies["csrftoken"] = "a" * 32
    response = user_client.post(READ, b"--x\r\n\r\n", content_type="multipart/form-data; boundary=")
    assert_problem(response, 400)
    response = user_client.post(READ, b"a=1&" * 2_000, content_type="application/x-www-form-urlencoded")
    assert_problem(response, 400)
    response = user_client.post(READ, b"a" * 3_000_000, content_type="application/x-www-form-urlencoded")
    assert_problem(response, 413)


@pytest.mark.parametrize(
    "error", [OperationalError("database is locked"), OperationalError("gone raise_error")]
)
def test_database_unavailable(error, user_client, caplog, forgotten_log):
    """503 with Retry-After. All such errors are one log line a minute, with how many there were."""

    def fail(execute, sql, *args):
        if "notifications_epoch" in sql:
            raise error
        return execute(sql, *args)

    with connection.execute_wrapper(fail):
        for url in (SYNC, NOTIFICATIONS):
            response = user_client.get(url)
            assert_problem(response, 503)
            assert int(response["Retry-After"]) > 0
        forgotten_log.clear()
        user_client.get(SYNC)
    line = "Responded with 503 after a database error ({} times since the last such line): " + str(error)
    assert [record.getMessage() for record in caplog.records] == [line.format(1), line.format(2)]
    assert not any(record.exc_info for record in caplog.records)


def test_session_cannot_be_read(user_client, monkeypatch):
    """503, not 401: the client may be signed in."""

    def raise_error(*args, **kwargs):
        raise OperationalError("gone raise_error")

    monkeypatch.setattr("django.contrib.auth.get_user", raise_error)
    monkeypatch.setattr("django.contrib.auth.middleware.auth.get_user", raise_error)
    assert_problem(user_client.get(SYNC), 503)


def test_exempt_from_atomic_requests(user_client, user, monkeypatch):
    """The response shows committed rows, and waiting holds no transaction."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    in_transaction = set()

    def note_transaction(execute, sql, *args):
        if "notifications_" in sql:
            in_transaction.add(connection.in_atomic_block)
        return execute(sql, *args)

    with connection.execute_wrapper(note_transaction):
        user_client.get(NOTIFICATIONS)
    assert in_transaction == {False}


def test_responses_are_not_cached(user_client):
    response = user_client.get(NOTIFICATIONS)
    assert (response["Cache-Control"], "Cookie" in response["Vary"]) == ("no-store", True)

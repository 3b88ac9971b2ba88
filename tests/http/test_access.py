"""Who may send a request to the API, by which method and with which CSRF token."""

import uuid

import pytest
from django.db import OperationalError, connection
from django.test import Client

from notifications import streams
from notifications.api import notify
from notifications.http import api_views
from notifications.models import Job
from tests.data.shapes import position
from tests.http.conftest import assert_problem, job_url

pytestmark = pytest.mark.django_db(transaction=True)

SYNC = "/notifications/api/sync/"
NOTIFICATIONS = "/notifications/api/notifications/"
READ = "/notifications/api/notifications/read/"
ANY_JOB = Job(id=uuid.UUID(int=7))


@pytest.fixture
def user_client(client_of, user):
    """Return a client of ``user`` whose CSRF tokens are checked."""
    return client_of(user, enforce_csrf_checks=True)


@pytest.mark.parametrize("url", [SYNC, NOTIFICATIONS, job_url(ANY_JOB), job_url(ANY_JOB, "result/")])
def test_nobody_is_signed_in(url, transactional_db):
    """401 as a problem, for whatever method and id, and no redirect to a login page."""
    assert "Sign in" in assert_problem(Client().get(url), 401)["detail"]
    assert_problem(Client().post(url), 401)


def test_signed_out_comes_before_csrf(transactional_db):
    """A form of a page that was signed out meanwhile is told so, and not that its token is wrong."""
    assert_problem(Client(enforce_csrf_checks=True).post(READ, "{}", content_type="application/json"), 401)


def test_a_middleware_that_demands_sign_in_is_left_to_the_api(transactional_db, settings):
    """With LoginRequiredMiddleware the API answers for itself."""
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
def test_another_method(method, url, allow, user_client):
    """405 with Allow."""
    answer = getattr(user_client, method)(url)
    assert_problem(answer, 405)
    assert answer["Allow"] == allow


def test_head_is_a_get(user_client):
    """HEAD answers as GET does, without a body."""
    answer = user_client.head(SYNC)
    assert (answer.status_code, answer.content) == (200, b"")


def test_csrf(user_client, user):
    """Without the token of the session: 403 as a problem that says where the token goes."""
    notify(user, "note")
    answer = user_client.post(READ, '{"up_to": 1}', content_type="application/json")
    remedy = "Send the value of the cookie csrftoken in the header X-Csrftoken."
    assert assert_problem(answer, 403)["detail"].endswith(remedy)
    assert position(user) == (1, 1)


def test_csrf_as_the_project_has_it(user_client, settings):
    """Its own header and cookie, or no cookie; and a foreign origin is told that no token mends it."""
    settings.CSRF_HEADER_NAME, settings.CSRF_COOKIE_NAME = "HTTP_X_OFFICE_TOKEN", "office"

    def refused(**headers):
        answer = user_client.post(READ, '{"up_to": 0}', content_type="application/json", headers=headers)
        return assert_problem(answer, 403)["detail"]

    remedy = "Send the value of the cookie office in the header X-Office-Token."
    assert refused() == f"CSRF cookie not set. {remedy}"
    user_client.cookies["office"] = "a" * 32
    assert refused() == f"CSRF token missing. {remedy}"
    assert refused(origin="https://other.example").endswith("or of an origin in CSRF_TRUSTED_ORIGINS.")
    settings.CSRF_USE_SESSIONS = True
    remedy = "Send the csrfmiddlewaretoken of a form in the header X-Office-Token."
    assert refused() == f"CSRF cookie not set. {remedy}"


def test_csrf_of_a_form_that_cannot_be_read(user_client):
    """A form is read for its token: a broken one is a problem too, never a page or a 500."""
    user_client.cookies["csrftoken"] = "a" * 32
    answer = user_client.post(READ, b"--x\r\n\r\n", content_type="multipart/form-data; boundary=")
    assert_problem(answer, 400)
    answer = user_client.post(READ, b"a=1&" * 2_000, content_type="application/x-www-form-urlencoded")
    assert_problem(answer, 400)
    answer = user_client.post(READ, b"a" * 3_000_000, content_type="application/x-www-form-urlencoded")
    assert_problem(answer, 413)


@pytest.mark.parametrize("error", [OperationalError("database is locked"), OperationalError("gone away")])
def test_the_database_is_away(error, user_client, monkeypatch, caplog):
    """503 and when to come again; the log says what it was."""
    monkeypatch.setattr(streams, "epoch", lambda: (_ for _ in ()).throw(error))
    for url in (SYNC, NOTIFICATIONS):
        answer = user_client.get(url)
        assert_problem(answer, 503)
        assert int(answer["Retry-After"]) > 0
    logged = [record for record in caplog.records if record.name == "notifications"]
    assert [(record.levelname, record.exc_info[1]) for record in logged] == [("WARNING", error)] * 2


def test_the_session_cannot_be_read(user_client, monkeypatch):
    """Nobody is told that they are signed out while it cannot be known."""

    def away(*args, **kwargs):
        raise OperationalError("gone away")

    monkeypatch.setattr("django.contrib.auth.get_user", away)
    monkeypatch.setattr("django.contrib.auth.middleware.auth.get_user", away)
    assert_problem(user_client.get(SYNC), 503)


def test_no_transaction_is_held(user_client, user, monkeypatch):
    """Under ATOMIC_REQUESTS too, so that what is answered is committed, and nobody waits holding one."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    seen = []
    monkeypatch.setattr(
        api_views.reader, "number_if_needed", lambda users: seen.append(connection.in_atomic_block)
    )
    user_client.get(NOTIFICATIONS)
    assert seen == [False]


def test_answers_are_nobody_elses(user_client):
    """No cache keeps them."""
    answer = user_client.get(NOTIFICATIONS)
    assert (answer["Cache-Control"], "Cookie" in answer["Vary"]) == ("no-store", True)

"""Requests that no person made leave the session as it is, where `SESSION_SAVE_EVERY_REQUEST` saves it otherwise."""

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.urls import reverse

from notifications.api import notify
from notifications.models import Job, Notification
from tests.data.rows import job as make_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

API = "/notifications/api/"


@pytest.fixture(autouse=True)
def save_every_request(settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True


@pytest.fixture
def paths(user):
    """The addresses that open pages request by themselves."""
    notify(user, "note")
    job = make_job(user, state="running")
    Job.objects.filter(pk=job.pk).update(fence=1, attempt=1)
    row = Notification.objects.get()
    for name in ("view_job", "view_overview", "view_broadcast"):
        user.user_permissions.add(Permission.objects.get(codename=name))
    user.is_staff = True
    user.save()
    return [
        f"{API}sync/",
        f"{API}jobs/{job.pk}/",
        f"{API}jobs/{job.pk}/output/",
        f"{API}notifications/?limit=3&questions=1",
        "/notifications/?part=views",
        f"/notifications/{row.pk}/?part=pane",
        reverse("admin:notifications_operations_overview_figures"),
        reverse("admin:notifications_job_rows") + f"?ids={job.pk.hex}",
        reverse("admin:notifications_job_state", args=[job.pk]),
    ]


def mark(path):
    return f"{path}{'&' if '?' in path else '?'}background=1"


def expiry(client):
    return Session.objects.get(pk=client.session.session_key).expire_date


def test_marked_requests_do_not_save_the_session(client_of, user, paths):
    """They get no cookie, and the response varies by the cookie as Django's own does; others save it."""
    client = client_of(user)
    before = expiry(client)
    for path in paths:
        response = client.get(mark(path))
        assert response.status_code == 200, path
        assert "sessionid" not in response.cookies, path
        assert "Cookie" in response["Vary"], path
        assert expiry(client) == before, path
        assert "sessionid" in client.get(path).cookies, path
        assert expiry(client) > before, path
        before = expiry(client)


def test_marked_posts(client_of, user, paths):
    """What is marked as seen by an open page is no work of its reader."""
    client = client_of(user)
    before = expiry(client)
    response = client.post(mark(f"{API}notifications/seen/"), {"up_to": 1}, content_type="application/json")
    assert (response.status_code, expiry(client)) == (200, before)


@pytest.mark.parametrize("path", ["events/", "output"])
async def test_streams(asgi, user, paths, path):
    """An `EventSource` of a page cannot send a header, and reconnects as long as the page is open."""
    address = {"events/": "events/?", "output": f"{paths[2].removeprefix(API)}?offset=0&live=sse&"}[path]
    marked = await (await asgi(f"{address}background=1", user)).wait_for_response()
    assert (marked.status, "set-cookie" in marked.headers) == (200, False)
    other = await (await asgi(address, user)).wait_for_response()
    assert "sessionid" in other.headers["set-cookie"]


def test_changed_sessions_are_saved(client_of, user, paths, settings):
    """Middleware of the project that stores something in the session loses nothing."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.count_requests"]
    client = client_of(user)
    client.get(mark(paths[0]))
    client.get(mark(paths[0]))
    assert client.session["requests"] == 2


def count_requests(get_response):
    def middleware(request):
        request.session["requests"] = request.session.get("requests", 0) + 1
        return get_response(request)

    return middleware


def test_tokens_in_the_session(client_of, user, paths, settings):
    """A page that creates a CSRF token stores it in the session."""
    settings.CSRF_USE_SESSIONS = True
    for path in paths:
        assert client_of(user).get(mark(path)).status_code == 200, path


def test_anonymous_clients(client, paths):
    assert client.get(mark(paths[0])).status_code == 401

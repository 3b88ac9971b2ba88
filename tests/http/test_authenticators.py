"""`AUTHENTICATORS`: clients with a token use the app's own API without a session, and without a CSRF token."""

import pytest
from django.contrib.auth import get_user_model
from django.test import AsyncClient, Client

from notifications.models import Job
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)

API = "/notifications/api/"


def find_user(request):
    """Return the user whose name is the token, for a header `Authorization: Token NAME`."""
    name = request.headers.get("Authorization", "").removeprefix("Token ")
    return get_user_model().objects.filter(username=name).first() if name else None


def drf_class():
    authentication = pytest.importorskip("rest_framework.authentication")
    from rest_framework.exceptions import AuthenticationFailed

    class NameAuthentication(authentication.BaseAuthentication):
        def authenticate(self, request):
            if not request.META.get("HTTP_AUTHORIZATION"):
                return None
            if user := find_user(request):
                return user, "token"
            raise AuthenticationFailed("Unknown token.")

        def authenticate_header(self, request):
            return "Token"

    return NameAuthentication


@pytest.fixture(params=["callable", "path", "drf"])
def authenticators(request, settings):
    entries = {"callable": find_user, "path": f"{__name__}.find_user"}
    entry = drf_class() if request.param == "drf" else entries[request.param]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "AUTHENTICATORS": [entry]}
    return request.param


@pytest.fixture
def job(user):
    return Job.objects.get(id=tasks.noop.using(owner=user).enqueue().id)


def token_of(user):
    return {"Authorization": f"Token {user.username}"}


def test_client_with_a_token(authenticators, user, other_user, job):
    client = Client(enforce_csrf_checks=True)
    path = f"{API}jobs/{job.id}/"
    assert client.get(path).status_code == 401
    assert client.get(path, headers=token_of(other_user)).status_code == 404
    assert client.get(path, headers=token_of(user)).json()["id"] == str(job.id)
    assert client.get(f"{API}sync/", headers=token_of(user)).status_code == 200
    assert client.post(f"{path}cancel/").status_code == 401
    assert client.post(f"{path}cancel/", headers=token_of(user)).json()["state"] == "cancelled"


async def test_event_stream_with_a_token(authenticators, user, job):
    assert (await AsyncClient().head(f"{API}events/", headers=token_of(user))).status_code == 200
    assert (await AsyncClient().get(f"{API}events/")).status_code == 204


def test_session_needs_a_csrf_token(authenticators, user, job):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.get(f"{API}jobs/{job.id}/").status_code == 200
    assert client.post(f"{API}jobs/{job.id}/cancel/").status_code == 403


def test_token_comes_before_the_session(authenticators, user, other_user, job):
    client = Client(enforce_csrf_checks=True)
    client.force_login(other_user)
    assert client.post(f"{API}jobs/{job.id}/cancel/", headers=token_of(user)).status_code == 200


def test_inactive_user(authenticators, user, job):
    get_user_model().objects.update(is_active=False)
    assert Client().get(f"{API}jobs/{job.id}/", headers=token_of(user)).status_code == 401


def test_token_that_is_refused(settings, user, user_client):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "AUTHENTICATORS": [drf_class()]}
    for client in (Client(), user_client):
        response = client.get(f"{API}jobs/", headers={"Authorization": "Token nobody"})
        assert (response.status_code, response.json()["detail"]) == (401, "Unknown token.")
        assert response.headers["WWW-Authenticate"] == "Token"


def test_session_authentication_of_drf_keeps_the_csrf_check(settings, user, job):
    authentication = pytest.importorskip("rest_framework.authentication")
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "AUTHENTICATORS": [f"{authentication.__name__}.SessionAuthentication"],
    }
    test_session_needs_a_csrf_token(None, user, job)

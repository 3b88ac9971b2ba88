"""`AUTHENTICATORS`: clients with a token use the app's own API without a session, and without a CSRF token."""

from base64 import b64encode

import pytest
from django.contrib.auth import get_user_model
from django.test import AsyncClient, Client

from notifications.models import Job
from tests.jobs import tasks
from tests.support.checks import system_checks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

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


def wrong_entries():
    """Entries that cannot be used, and what the check says of each."""
    authentication = pytest.importorskip("rest_framework.authentication")

    class Plain:
        def authenticate(self, request):
            return None

    class NeedsAnArgument(authentication.BaseAuthentication):
        def __init__(self, key):
            self.key = key

    async def find_user_async(request):
        return None

    drf = "rest_framework.authentication"
    return [
        (f"{drf}.TokenAuthentcation", "cannot be imported"),
        ("shop.auth.find_user", "cannot be imported"),
        ("find_user", "cannot be imported"),
        (f"{__name__}.API", "is neither an authentication class of Django REST framework nor a function"),
        (7, "is neither an authentication class of Django REST framework nor a function"),
        ({"path": "x"}, "is neither an authentication class of Django REST framework nor a function"),
        (authentication.BaseAuthentication(), "is neither an authentication class"),
        (Plain, "is a class, but not an authentication class of Django REST framework"),
        (NeedsAnArgument, "cannot be made without arguments"),
        (find_user_async, "is async"),
        (lambda: None, "cannot be called with a request"),
        (f"{drf}.TokenAuthentication", "'rest_framework.authtoken' is not in INSTALLED_APPS"),
        (f"{drf}.BasicAuthentication", "browsers send by themselves"),
        (f"{drf}.RemoteUserAuthentication", "browsers send by themselves"),
        (type("Own", (authentication.BasicAuthentication,), {}), "browsers send by themselves"),
    ]


def test_wrong_authenticator_is_left_out(settings, user, other_user, job, caplog):
    """E014 names the entry and the cause, the log does so once, and requests are answered without it."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(other_user)
    path = f"{API}jobs/{job.id}/"
    offenders = []
    for entry, problem in wrong_entries():
        caplog.clear()
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "AUTHENTICATORS": [entry, find_user]}
        found = system_checks("E014", "E003")
        statuses = [client.get(path, headers=headers).status_code for headers in ({}, token_of(user)) * 2]
        if (
            [message.id for message in found] != ["notifications.E014"]
            or not found[0].msg.startswith("NOTIFICATIONS['AUTHENTICATORS']: ")
            or problem not in found[0].msg
            or not found[0].hint
            or statuses != [404, 200] * 2
            or caplog.text.count("An entry of AUTHENTICATORS is left out") != 1
        ):
            offenders.append((entry, found, statuses, caplog.text))
    assert not offenders


def test_authenticators_that_can_be_used(settings):
    authentication = pytest.importorskip("rest_framework.authentication")
    entries = [find_user, f"{__name__}.find_user", drf_class(), authentication.SessionAuthentication]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "AUTHENTICATORS": entries}
    assert system_checks("E014") == []


@pytest.mark.parametrize("entry", ["class", "function"])
def test_credentials_that_browsers_repeat_need_a_csrf_token(settings, user, job, entry):
    """Another site's form would send them too. BasicAuthentication is never called; a function may read as much."""
    authentication = pytest.importorskip("rest_framework.authentication")
    user.set_password("secret")
    user.save()

    def find_by_password(request):
        return authentication.BasicAuthentication().authenticate(Request(request))[0]

    from rest_framework.request import Request

    entries = {"class": authentication.BasicAuthentication, "function": find_by_password}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "AUTHENTICATORS": [entries[entry]]}
    credentials = b64encode(f"{user.username}:secret".encode()).decode()
    response = Client(enforce_csrf_checks=True).post(
        f"{API}jobs/{job.id}/cancel/", headers={"Authorization": f"Basic {credentials}"}
    )
    assert response.status_code == {"class": 401, "function": 403}[entry]
    job.refresh_from_db()
    assert job.state == "queued"

"""accepted() in views of Django REST framework and Django Ninja, as the documentation shows them."""

import json

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connections
from django.test import AsyncClient, Client
from django.urls import include, path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.parsers import BaseParser, MultiPartParser

from notifications.api import task
from notifications.models import Job
from tests.docs.pages import DOCS, blocks, code
from tests.http.conftest import BROWSER, assert_problem
from tests.support.core_alone import host_urls

DRF = ["/drf/function/", "/drf/class/"]
NINJA = ["/ninja/exports/", "/ninja/exports/async/"]
VIEWS = DRF + NINJA
KEY = {"Idempotency-Key": "k1"}

pytestmark = pytest.mark.django_db(transaction=True)


class TokenAuthentication(BaseAuthentication):
    """Authenticate by a header: "Token ada" is the user ada."""

    def authenticate(self, request):
        kind, _, name = request.headers.get("Authorization", "").partition(" ")
        if kind != "Token":
            return None
        user = get_user_model().objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed("No user has this token.")
        return user, None


@task
def make_export(year):
    return {"year": year}


class CountedTask:
    """The task of the examples, with a row for each call of enqueue()."""

    def enqueue(self, year):
        Group.objects.create(name=f"enqueued {year}, {Group.objects.count()}")
        if int(year) < 0:
            raise ZeroDivisionError
        return make_export.enqueue(int(year))


async def get_user_by_token(token):
    return await get_user_model().objects.filter(username=token).afirst()


drf = {"__name__": __name__, "export": CountedTask()}
ninja = drf | {"get_user_by_token": get_user_by_token}
exec(code("how-to/frameworks.md", "Django REST framework"), drf)
exec(code("how-to/frameworks.md", "Django Ninja"), ninja)

for view in (drf["export_view"].cls, drf["ExportView"]):
    view.authentication_classes = [TokenAuthentication, *view.authentication_classes]


class StreamParser(BaseParser):
    """A parser that reads the body as a stream, so that its bytes are gone."""

    media_type = "application/x-own"

    def parse(self, stream, media_type=None, parser_context=None):
        return json.load(stream)


class ExportByPut(drf["ExportView"]):
    """Read the whole body before accepted() is called."""

    parser_classes = [StreamParser, MultiPartParser]

    def put(self, request):
        assert request.data["year"]
        return self.post(request)


class LazyExportView(drf["ExportView"]):
    """Authenticate when request.user is first used, as DRF's documentation shows."""

    def perform_authentication(self, request):
        pass


urlpatterns = [
    path("drf/lazy/", LazyExportView.as_view()),
    path("drf/put/", ExportByPut.as_view()),
    path("drf/function/", drf["export_view"]),
    path("drf/class/", drf["ExportView"].as_view()),
    path("ninja/", ninja["api"].urls),
    path("", include(host_urls())),
]


class AtomicUrls:
    """Those of Django Ninja with ATOMIC_REQUESTS."""

    (_marked,) = (block for block in blocks(DOCS / "how-to/frameworks.md", "python") if "non_atomic" in block)
    _names = {"api": ninja["api"]}
    exec(_marked, _names)
    urlpatterns = [*_names["urlpatterns"], path("", include(host_urls()))]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


def post(client, view, body='{"year": 2026}', kind="application/json", **headers):
    return client.post(view, body, content_type=kind, headers=headers)


def multipart_body(year):
    """Return a form with a field and a file."""
    return (
        f'--x\r\nContent-Disposition: form-data; name="year"\r\n\r\n{year}\r\n'
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nof {year}\r\n--x--\r\n'
    )


BODIES = {
    "JSON": ("application/json", '{{"year": {}}}'.format),
    "form": ("application/x-www-form-urlencoded", "year={}".format),
    "multipart": ("multipart/form-data; boundary=x", multipart_body),
}


@pytest.mark.parametrize("view", VIEWS)
def test_accepted(user_client, user, view):
    """202 with the job of the signed-in user. A browser is redirected to its page."""
    response = post(user_client, view)
    job = Job.objects.get()
    assert response.status_code == 202, response.content
    assert (job.user_id, json.loads(job.args)) == (user.pk, [2026])
    assert response.json()["id"] == str(job.pk) and response["Location"] == response.json()["links"]["self"]
    assert (response["Content-Type"], response["Retry-After"]) == ("application/json", "1") and response[
        "ETag"
    ]
    assert post(user_client, view, **BROWSER).status_code == 303


@pytest.mark.parametrize(("view", "kind"), [(DRF[0], "Token"), (DRF[1], "Token"), (NINJA[1], "Bearer")])
def test_owner_is_the_user_of_the_framework(user_client, other_user, view, kind):
    """Authenticated by a token, without a session."""
    assert post(Client(), view, Authorization=f"{kind} bob").status_code == 202
    assert Job.objects.get().user_id == other_user.pk
    assert post(Client(), view, Authorization=f"{kind} nobody").status_code in (401, 403)


@pytest.mark.parametrize("view", [*DRF, "/drf/lazy/"])
def test_token_takes_precedence_over_the_session(user_client, other_user, view):
    """Django's request inside DRF's has another user."""
    assert post(user_client, view, Authorization="Token bob").status_code == 202
    assert Job.objects.get().user_id == other_user.pk


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("view", DRF)
def test_replay_in_drf(user_client, view, body):
    """Whether the parser has read the body before accepted(), reads it then, or never does."""
    kind, write = BODIES[body]
    first = post(user_client, view, write(2026), kind, **KEY)
    again = post(user_client, view, write(2026), kind, **KEY)
    assert (first.status_code, again.status_code) == (202, 202), first.content
    assert again.json()["id"] == first.json()["id"]
    assert "Idempotency-Replayed" not in first and again["Idempotency-Replayed"] == "true"
    assert_problem(post(user_client, view, write(2027), kind, **KEY), 422)
    assert Job.objects.count() == Group.objects.count() == 1


@pytest.mark.parametrize("view", NINJA)
def test_replay_in_ninja(user_client, view):
    first, again = (post(user_client, view, **KEY) for _ in range(2))
    assert again.json()["id"] == first.json()["id"] and again["Idempotency-Replayed"] == "true"
    assert_problem(post(user_client, view, '{"year": 2027}', **KEY), 422)
    assert Job.objects.count() == Group.objects.count() == 1


@pytest.mark.parametrize("view", VIEWS)
def test_whitespace_in_the_body_is_compared(user_client, view):
    """The bytes of the body are compared."""
    post(user_client, view, '{"year": 2026, "a": 1}', **KEY)
    assert_problem(post(user_client, view, '{"year":2026,"a":1}', **KEY), 422)


@pytest.mark.parametrize(
    ("kind", "first", "same", "other"),
    [
        ("application/x-own", '{"year": 1, "a": 2}', '{"a":2,"year":1}', '{"year": 1, "a": 3}'),
        (
            "multipart/form-data; boundary=x",
            multipart_body(1),
            multipart_body(1),
            multipart_body(1).replace("of 1", "of 2"),
        ),
    ],
    ids=["own", "multipart"],
)
def test_parsed_data_is_compared_if_the_bytes_are_gone(user_client, kind, first, same, other):
    """Including the content of files."""

    def put(body):
        return user_client.put("/drf/put/", body, content_type=kind, headers=KEY)

    first_response, again = put(first), put(same)
    assert (first_response.status_code, again.status_code) == (202, 202), first_response.content
    assert again["Idempotency-Replayed"] == "true" and again.json()["id"] == first_response.json()["id"]
    assert_problem(put(other), 422)
    assert Job.objects.count() == Group.objects.count() == 1


@pytest.mark.parametrize("view", VIEWS)
def test_invalid_key(user_client, view):
    assert_problem(post(user_client, view, **{"Idempotency-Key": "a b"}), 400)
    assert not Job.objects.exists() and not Group.objects.exists()


@pytest.mark.parametrize("headers", [{}, KEY])
@pytest.mark.parametrize("view", VIEWS)
def test_failures_store_nothing(user_client, view, headers):
    """Neither an exception while enqueueing nor a body that the framework refuses."""
    assert post(user_client, view, '{"year": -1}', **headers).status_code == 500
    assert post(user_client, view, '{"year": ', **headers).status_code in (400, 422)
    assert not Job.objects.exists() and not Group.objects.exists()


@pytest.mark.parametrize("view", [DRF[0], NINJA[1]])
async def test_prefer(user, view):
    """Under ASGI, in a thread and in the event loop. The job is not done in time."""
    user_client = AsyncClient()
    await user_client.aforce_login(user)
    response = await post(user_client, view, Prefer="wait=1")
    assert (response.status_code, response["Preference-Applied"]) == (202, "wait=1")
    response = await post(user_client, view, Prefer="respond-async")
    assert (response.status_code, response["Preference-Applied"]) == (202, "respond-async")
    await sync_to_async(connections.close_all)()


@pytest.mark.parametrize("view", NINJA)
def test_ninja_with_atomic_requests(user_client, settings, view):
    """With the URLs of the page: Django refuses to serve async views that are not marked."""
    settings.ROOT_URLCONF = AtomicUrls
    connections.databases["default"]["ATOMIC_REQUESTS"] = True
    try:
        response = post(user_client, view.replace("ninja", "api"))
    finally:
        connections.databases["default"]["ATOMIC_REQUESTS"] = False
    assert response.status_code == 202, response.content

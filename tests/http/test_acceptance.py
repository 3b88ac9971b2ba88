"""accepted(): the work is asked for, committed, and answered with where to look."""

import asyncio
import json
import re
from functools import partial

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, transaction
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from notifications.api import aaccepted, accepted, requester, task
from notifications.http import acceptance
from notifications.jobs.transitions import queueing
from notifications.models import Job, Ring
from notifications.signals import rung
from notifications.testing import run_jobs


@task
def double(number):
    return number * 2


@task
def ask_for_another(number):
    double.enqueue(number)


def ask_plainly():
    Group.objects.create(name="made beside the job")
    return double.using(title="Double it").enqueue(21)


@csrf_exempt
def plain(request):
    return accepted(request, ask_plainly)


class CallableView:
    def __call__(self, request):
        return plain(request)


@csrf_exempt
async def from_async(request):
    return await aaccepted(request, ask_plainly)


@csrf_exempt
def with_a_page(request):
    return accepted(request, lambda: double.using(url="/groups/7/").enqueue(21))


@csrf_exempt
def for_another(request):
    owner = get_user_model().objects.get(username="bob")
    return accepted(request, lambda: double.using(owner=owner).enqueue(21))


@csrf_exempt
def inside_a_requester(request):
    with requester(get_user_model().objects.get(username="bob")):
        return accepted(request, ask_plainly)


@csrf_exempt
def with_a_key(request):
    return accepted(request, lambda: double.using(key=request.GET["key"]).enqueue(request.GET["number"]))


@csrf_exempt
def that_fails(request):
    def ask():
        ask_plainly()
        raise ZeroDivisionError

    return accepted(request, ask)


@csrf_exempt
def that_fails_later(request):
    accepted(request, ask_plainly)
    raise ZeroDivisionError


@csrf_exempt
def that_forgets(request):
    return accepted(request, lambda: ask_plainly() and None)


@csrf_exempt
def seen(request):
    """What another connection would see while the answer is made."""
    answer = accepted(request, ask_plainly)
    return HttpResponse(f"{answer.status_code} {connection.in_atomic_block}")


urlpatterns = [
    path("plain/", plain),
    path("async/", from_async),
    path("page/", with_a_page),
    path("other/", for_another),
    path("requester/", inside_a_requester),
    path("key/", with_a_key),
    path("fails/", that_fails),
    path("fails-later/", that_fails_later),
    path("forgets/", that_forgets),
    path("seen/", seen),
    path("partial/", partial(plain)),
    path("instance/", CallableView()),
    path("", include("asyncsite.urls")),
]

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def urls(settings, transactional_db):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


def assert_accepted(answer, owner):
    """202 as the contract says it, for the one job."""
    job = Job.objects.get()
    assert (answer.status_code, job.user) == (202, owner)
    assert answer["Location"] == f"/notifications/api/jobs/{job.pk}/"
    assert (answer["Retry-After"], answer["Cache-Control"]) == ("1", "no-store")
    assert answer["ETag"]
    told = json.loads(answer.content)
    assert (told["id"], told["state"], told["title"]) == (str(job.pk), "queued", "Double it")
    assert told["links"]["self"] == answer["Location"]
    return job


def test_accepted(user_client, user):
    """202, where to look, and the job; its URL answers the same at once."""
    answer = user_client.post("/plain/")
    assert_accepted(answer, user)
    there = user_client.get(answer["Location"])
    assert (there.content, there["ETag"]) == (answer.content, answer["ETag"])
    assert Group.objects.count() == 1
    assert run_jobs() == 1
    assert (
        user_client.get(json.loads(user_client.get(answer["Location"]).content)["links"]["result"]).json()
        == 42
    )


async def test_accepted_from_an_async_view(user):
    """aaccepted() is accepted(), one hop to a thread away."""
    client = AsyncClient()
    await client.aforce_login(user)
    answer = await client.post("/async/")
    await asyncio.to_thread(check_in_thread, assert_accepted, answer, user)


def check_in_thread(check, *args):
    try:
        return check(*args)
    finally:
        connection.close()


def test_under_atomic_requests(user_client, user, atomic_requests):
    """The job is committed with the request, and rung then."""
    heard = []

    def hear(users, queue, **kwargs):
        heard.append((users, queue, connection.in_atomic_block))

    rung.connect(hear)
    try:
        answer = user_client.post("/seen/")
        assert answer.content == b"202 True"
        assert heard == [([user.pk], True, False)]
        Job.objects.all().delete()
        Group.objects.all().delete()
        assert_accepted(user_client.post("/plain/"), user)
    finally:
        rung.disconnect(hear)


def test_under_atomic_requests_a_view_that_fails_later_leaves_nothing(user_client, atomic_requests):
    """The host's transaction is the host's."""
    assert user_client.post("/fails-later/").status_code == 500
    assert_nothing_is_left()


def test_an_answer_outside_a_transaction_is_committed(user_client):
    """Without ATOMIC_REQUESTS the job is there before anybody is answered, and stays."""
    assert user_client.post("/fails-later/").status_code == 500
    assert (Job.objects.count(), Group.objects.count()) == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
def test_an_ask_that_fails_leaves_nothing(atomic, user_client, monkeypatch):
    """Neither the host's row nor the job, nor a ring."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    assert user_client.post("/fails/").status_code == 500
    assert_nothing_is_left()


def assert_nothing_is_left():
    for model in (Job, Group, Ring):
        assert not model.objects.exists(), model


def test_an_ask_that_returns_no_result(user_client):
    """The error says what it must return, and nothing is left."""
    user_client.raise_request_exception = True
    with pytest.raises(TypeError, match=r"It must return what enqueue\(\) returned"):
        user_client.post("/forgets/")
    assert_nothing_is_left()


def test_a_browser_is_sent_to_the_page(user_client):
    """303 to the url of the job, which a form's answer should be."""
    answer = user_client.post("/page/", headers=BROWSER)
    assert (answer.status_code, answer["Location"]) == (303, "/groups/7/")


def test_a_browser_is_sent_to_the_jobs_own_page(user_client):
    """Where the job has no url."""
    answer = user_client.post("/plain/", headers=BROWSER)
    assert (answer.status_code, answer["Location"]) == (303, f"/notifications/jobs/{Job.objects.get().pk}/")
    assert user_client.get(answer["Location"]).status_code == 200


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "image/png", "application/json, text/html;q=0.5"]
)
def test_a_program_gets_json(accept, user_client, user):
    """Also one that has no wishes."""
    assert_accepted(user_client.post("/plain/", headers={"Accept": accept}), user)


def test_the_named_owner_comes_before_the_request(user_client, other_user):
    """.using(owner=…) is the word of the one who wrote the view."""
    user_client.post("/other/")
    assert Job.objects.get().user == other_user


def test_the_request_comes_before_a_requester(user_client, user, other_user):
    """What is asked for in a request is the one's who sent it."""
    assert_accepted(user_client.post("/requester/"), user)


def test_a_requester_comes_when_nobody_is_signed_in(other_user):
    """An anonymous request has no owner to give."""
    Client().post("/requester/")
    assert Job.objects.get().user == other_user


def test_nobody(transactional_db):
    """Then the job is nobody's."""
    assert Client().post("/plain/").status_code == 202
    assert Job.objects.get().user is None


def test_the_owner_ends_with_the_request(user_client, user):
    """What is enqueued later in the same thread is not this user's."""
    user_client.post("/plain/")
    double.enqueue(1)
    assert Job.objects.order_by("id").last().user is None


def test_children_inherit_the_owner(user):
    """What a job enqueues is its owner's."""
    with requester(user):
        ask_for_another.enqueue(1)
    assert run_jobs() == 2
    assert list(Job.objects.values_list("user", "state").order_by("id")) == [(user.pk, "succeeded")] * 2


def test_a_key_that_stands_for_something_else(user_client):
    """422 as a problem; the same again is the same job."""
    first = user_client.post("/key/?key=k&number=1")
    assert (first.status_code, user_client.post("/key/?key=k&number=1").json()["id"]) == (
        202,
        first.json()["id"],
    )
    answer = user_client.post("/key/?key=k&number=2")
    assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json")
    assert "another task or other arguments" in answer.json()["detail"]
    assert Job.objects.count() == 1


def test_how_long_the_lock_is_held(user_client, monkeypatch):
    """Who asks is found before the transaction begins; in it nothing is read that is known."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no lock of that kind.")
    monkeypatch.setattr(f"{__name__}.ask_plainly", lambda: double.enqueue(21))
    with CaptureQueriesContext(connection) as captured:
        assert user_client.post("/plain/").status_code == 202
    said = [query["sql"] for query in captured.captured_queries]
    begun = next(number for number, sql in enumerate(said) if sql.startswith("BEGIN"))
    assert [re.sub(r"[\"`]", "", sql).split("(")[0].strip() for sql in said[begun:]] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO notifications_job",
        "INSERT INTO notifications_ring",
        "COMMIT",
    ]


def test_too_many_jobs(user_client, settings):
    """429 as a problem, when to come again, and no row of the host's either."""
    settings.NOTIFICATIONS = {"ACTIVE_JOBS_PER_USER": 2}
    for _ in range(2):
        Group.objects.all().delete()
        assert user_client.post("/plain/").status_code == 202
    Group.objects.all().delete()
    answer = user_client.post("/plain/")
    assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
    assert int(answer["Retry-After"]) > 0
    assert "2 active jobs" in answer.json()["detail"]
    assert (Job.objects.count(), Group.objects.count()) == (2, 0)


def test_a_busy_database(user_client, monkeypatch, caplog):
    """503 as a problem, when to come again, and nothing is left; the log says what it was."""

    def busy(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr(queueing, "enqueue", busy)
    answer = user_client.post("/plain/")
    assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")
    assert int(answer["Retry-After"]) > 0
    assert_nothing_is_left()
    (record,) = [record for record in caplog.records if record.name == "notifications"]
    assert (record.levelname, record.exc_info[0]) == ("WARNING", OperationalError)


def test_inside_a_transaction_of_the_view(user_client, user, rf):
    """It joins it, and goes with it."""
    request = rf.post("/plain/")
    request.user = user
    with transaction.atomic():
        assert accepted(request, ask_plainly).status_code == 202
        transaction.set_rollback(True)
    assert_nothing_is_left()


@pytest.mark.parametrize("path", ["/plain/", "/async/"])
def test_a_job_enqueued_by_a_get_is_a_warning_once_for_each_view(user_client, caplog, monkeypatch, path):
    """A POST is none."""
    monkeypatch.setattr(acceptance, "_warned_views", set())
    user_client.post(path)
    assert "safe request" not in caplog.text
    for method in (user_client.get, user_client.head):
        Group.objects.all().delete()
        assert method(path).status_code == 202
    (record,) = [record for record in caplog.records if "safe request" in record.message]
    assert record.levelname == "WARNING" and record.name == "notifications"
    name = "plain" if path == "/plain/" else "from_async"
    assert f"GET of {__name__}.{name}. Accept POST only, for example with @require_POST." in record.message


@pytest.mark.parametrize(
    ("path", "name"),
    [("/partial/", ".plain"), ("/instance/", "an instance of tests.http.test_acceptance.CallableView")],
)
def test_a_view_without_a_name_is_answered(user_client, caplog, monkeypatch, path, name):
    """A view may be a partial function or an object, which have no __qualname__."""
    monkeypatch.setattr(acceptance, "_warned_views", set())
    assert user_client.get(path).status_code == 202
    assert f"{name}. Accept POST only" in caplog.text

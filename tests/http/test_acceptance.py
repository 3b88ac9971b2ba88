"""accepted(): the job is enqueued and committed, and the response tells where to follow it."""

import asyncio
import json
import re

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from notifications.api import accepted, requester
from notifications.http import acceptance
from notifications.models import Job
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.http import views
from tests.http.conftest import BROWSER
from tests.http.views import double, enqueue_child, enqueue_double
from tests.support.statements import refused

pytestmark = pytest.mark.nightly_on_postgres


@pytest.fixture(autouse=True)
def urls(settings, transactional_db):
    settings.ROOT_URLCONF = "tests.http.views"


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


def assert_accepted(response, owner):
    """Assert that the response is a complete 202 for the only job."""
    job = Job.objects.get()
    assert (response.status_code, job.user) == (202, owner)
    assert response["Location"] == f"/notifications/api/jobs/{job.pk}/"
    assert (response["Retry-After"], response["Cache-Control"]) == ("1", "no-store")
    assert response["ETag"]
    data = json.loads(response.content)
    assert (data["id"], data["state"], data["title"]) == (str(job.pk), "queued", "Double it")
    assert data["links"]["self"] == response["Location"]
    return job


def test_accepted(user_client, user):
    """202 with the URL of the job, which returns the same job immediately."""
    response = user_client.post("/plain/")
    assert_accepted(response, user)
    job_response = user_client.get(response["Location"])
    assert (job_response.content, job_response["ETag"]) == (response.content, response["ETag"])
    assert Group.objects.count() == 1
    assert run_jobs() == 1
    assert (
        user_client.get(json.loads(user_client.get(response["Location"]).content)["links"]["result"]).json()
        == 42
    )


async def test_accepted_from_an_async_view(user):
    """aaccepted() behaves as accepted()."""
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.post("/async/")
    await asyncio.to_thread(check_in_thread, assert_accepted, response, user)


def check_in_thread(check, *args):
    try:
        return check(*args)
    finally:
        connection.close()


def test_under_atomic_requests(user_client, user, atomic_requests):
    """The job is committed with the request, and the doorbell rings after that."""
    rings = []

    def record_ring(users, queue, **kwargs):
        rings.append((users, queue, connection.in_atomic_block))

    rung.connect(record_ring)
    try:
        response = user_client.post("/transaction/")
        assert response.content == b"202 True"
        assert rings == [([user.pk], True, False)]
        Job.objects.all().delete()
        Group.objects.all().delete()
        assert_accepted(user_client.post("/plain/"), user)
    finally:
        rung.disconnect(record_ring)


def test_atomic_requests_roll_back_when_the_view_fails_later(user_client, atomic_requests, rings):
    """The job belongs to the transaction of the project."""
    assert user_client.post("/fails-later/").status_code == 500
    assert_nothing_is_stored(rings)


def test_job_is_committed_without_atomic_requests(user_client):
    """The job is committed before the response is made, and stays when the view fails."""
    assert user_client.post("/fails-later/").status_code == 500
    assert (Job.objects.count(), Group.objects.count()) == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
def test_exception_while_enqueueing_rolls_back(atomic, user_client, monkeypatch, rings):
    """Neither a row of the project, nor the job, nor a ring is stored."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    assert user_client.post("/fails/").status_code == 500
    assert_nothing_is_stored(rings)


def assert_nothing_is_stored(rings):
    for model in (Job, Group):
        assert not model.objects.exists(), model
    assert rings == []


def test_enqueue_function_without_result(user_client, rings):
    """TypeError tells what it must return, and nothing is stored."""
    user_client.raise_request_exception = True
    with pytest.raises(TypeError, match=r"It must return what enqueue\(\) returned"):
        user_client.post("/forgets/")
    assert_nothing_is_stored(rings)


def test_browser_is_redirected_to_the_job_url(user_client):
    """303 to the url of the job."""
    response = user_client.post("/page/", headers=BROWSER)
    assert (response.status_code, response["Location"]) == (303, "/groups/7/")


def test_browser_is_redirected_to_the_job_page(user_client):
    """If the job has no url."""
    response = user_client.post("/plain/", headers=BROWSER)
    assert (response.status_code, response["Location"]) == (
        303,
        f"/notifications/jobs/{Job.objects.get().pk}/",
    )
    assert user_client.get(response["Location"]).status_code == 200


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "image/png", "application/json, text/html;q=0.5"]
)
def test_other_clients_get_json(accept, user_client, user):
    """Also those that accept everything, or nothing that is available."""
    assert_accepted(user_client.post("/plain/", headers={"Accept": accept}), user)


def test_owner_of_using_takes_precedence(user_client, other_user):
    """.using(owner=…) takes precedence over the user of the request."""
    user_client.post("/bob/")
    assert Job.objects.get().user == other_user


def test_user_of_the_request_takes_precedence_over_requester(user_client, user, other_user):
    """The user of the request owns the job, although a requester() block names another."""
    assert_accepted(user_client.post("/requester/"), user)


def test_requester_owns_jobs_of_anonymous_requests(other_user):
    """An anonymous request has no user who could own the job."""
    Client().post("/requester/")
    assert Job.objects.get().user == other_user


def test_anonymous_request(transactional_db):
    """The job has no owner."""
    assert Client().post("/plain/").status_code == 202
    assert Job.objects.get().user is None


def test_owner_is_reset_after_the_request(user_client, user):
    """A job that is enqueued later in the same thread has no owner."""
    user_client.post("/plain/")
    double.enqueue(1)
    assert Job.objects.order_by("id").last().user is None


def test_child_jobs_inherit_the_owner(user):
    with requester(user):
        enqueue_child.enqueue(1)
    assert run_jobs() == 2
    assert list(Job.objects.values_list("user", "state").order_by("id")) == [(user.pk, "succeeded")] * 2


def test_key_of_using_with_other_arguments(user_client):
    """422. The same arguments return the same job."""
    first = user_client.post("/key/?key=k&number=1")
    assert (first.status_code, user_client.post("/key/?key=k&number=1").json()["id"]) == (
        202,
        first.json()["id"],
    )
    response = user_client.post("/key/?key=k&number=2")
    assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json")
    assert "another task or other arguments" in response.json()["detail"]
    assert Job.objects.count() == 1


def test_statements_while_sqlite_is_locked(user_client, monkeypatch):
    """The user is read before the transaction begins, so the lock is held for the inserts only."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no lock of that kind.")
    monkeypatch.setattr(views, "enqueue_double", lambda: double.enqueue(21))
    with CaptureQueriesContext(connection) as captured:
        assert user_client.post("/plain/").status_code == 202
    statements = [query["sql"] for query in captured.captured_queries]
    begin = next(number for number, sql in enumerate(statements) if sql.startswith("BEGIN"))
    assert [re.sub(r"[\"`]", "", sql).split("(")[0].strip() for sql in statements[begin:]] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO notifications_job",
        "COMMIT",
    ]


def test_too_many_jobs(user_client, settings):
    """429 with Retry-After, and no row of the project is stored either."""
    settings.NOTIFICATIONS = {"ACTIVE_JOBS_PER_USER": 2}
    for _ in range(2):
        Group.objects.all().delete()
        assert user_client.post("/plain/").status_code == 202
    Group.objects.all().delete()
    response = user_client.post("/plain/")
    assert (response.status_code, response["Content-Type"]) == (429, "application/problem+json")
    assert int(response["Retry-After"]) > 0
    assert "2 active jobs" in response.json()["detail"]
    assert (Job.objects.count(), Group.objects.count()) == (2, 0)


def test_database_unavailable(user_client, caplog, rings, forgotten_log):
    """503 with Retry-After, nothing is stored, and the error is logged."""

    with refused("INSERT INTO notifications_job"):
        response = user_client.post("/plain/")
    assert (response.status_code, response["Content-Type"]) == (503, "application/problem+json")
    assert int(response["Retry-After"]) > 0
    assert_nothing_is_stored(rings)
    (record,) = [record for record in caplog.records if record.name == "notifications"]
    assert record.levelname == "WARNING" and record.getMessage().endswith(": The database is away.")


def test_rollback_of_the_view(user_client, user, rf, rings):
    """The job is part of the transaction, and rolled back with it."""
    request = rf.post("/plain/")
    request.user = user
    with transaction.atomic():
        assert accepted(request, enqueue_double).status_code == 202
        transaction.set_rollback(True)
    assert_nothing_is_stored(rings)


@pytest.fixture
def no_view_logged_before(monkeypatch):
    monkeypatch.setattr(acceptance, "_warned_views", set())


@pytest.mark.parametrize("path", ["/plain/", "/async/"])
def test_enqueueing_for_a_get_is_logged_once_for_each_view(user_client, caplog, no_view_logged_before, path):
    user_client.post(path)
    assert "safe request" not in caplog.text
    for method in (user_client.get, user_client.head):
        Group.objects.all().delete()
        assert method(path).status_code == 202
    (record,) = [record for record in caplog.records if "safe request" in record.message]
    assert record.levelname == "WARNING" and record.name == "notifications"
    name = "sync_view" if path == "/plain/" else "async_view"
    assert (
        f"GET of tests.http.views.{name}. Accept POST only, for example with @require_POST." in record.message
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [("/partial/", ".sync_view"), ("/instance/", "an instance of tests.http.views.CallableView")],
)
def test_warning_names_views_without_a_name(user_client, caplog, no_view_logged_before, path, name):
    """Partial functions and instances have no __qualname__."""
    assert user_client.get(path).status_code == 202
    assert f"{name}. Accept POST only" in caplog.text

"""``Idempotency-Key``: an equal request with the same key gets the same job."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.encoding import iri_to_uri

from notifications.api import requester
from notifications.models import Job
from notifications.testing import run_jobs
from tests.http import views
from tests.http.conftest import BROWSER, assert_problem
from tests.http.views import double

pytestmark = pytest.mark.nightly_on_old_django

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def post(client, path="/plain/", body='{"n": 1}', *, key=KEY, **headers):
    return client.post(path, body, content_type="application/json", headers={**key, **headers})


def count_rows():
    return Job.objects.count(), Group.objects.count()


def assert_replay(first, again):
    """Assert that the second response is a replay of the first, and that one job and one group are stored."""
    assert (first.status_code, again.status_code) == (202, 202), again.content
    assert again.json()["id"] == first.json()["id"]
    assert again["Location"] == first["Location"]
    assert "Idempotency-Replayed" not in first and again["Idempotency-Replayed"] == "true"
    assert count_rows() == (1, 1)


@pytest.mark.parametrize("path", ["/plain/", "/async/"])
def test_equal_request_is_a_replay(path, user_client, rings):
    """The job is enqueued once, and the doorbell rings once."""
    first = post(user_client, path)
    for _ in range(2):
        assert_replay(first, post(user_client, path))
    assert len(rings) == 1


def test_replay_does_not_call_the_enqueue_function(user_client, monkeypatch):
    """Its effects outside the database could not be rolled back."""
    enqueue_double, calls = views.enqueue_double, []
    monkeypatch.setattr(views, "enqueue_double", lambda: calls.append(1) or enqueue_double())
    for _ in range(3):
        assert post(user_client).status_code == 202
    assert len(calls) == 1


def test_requests_without_a_key(user_client):
    for _ in range(2):
        assert "Idempotency-Replayed" not in post(user_client, key={})
    assert count_rows() == (2, 2)


def test_replay_shows_the_current_state(user_client):
    """The status stays 202 when the job is done."""
    first = post(user_client)
    run_jobs()
    again = post(user_client)
    assert_replay(first, again)
    assert again.json()["state"] == "succeeded" and again["Retry-After"] == "1"


def test_replay_redirects_a_browser(user_client):
    first, again = post(user_client, **BROWSER), post(user_client, **BROWSER)
    assert (first.status_code, again.status_code) == (303, 303)
    assert again["Location"] == first["Location"] and again["Idempotency-Replayed"] == "true"
    assert count_rows() == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"body": '{"n": 2}'},
        {"body": '{"n":1}'},
        {"body": ""},
        {"path": "/plain/?n=1"},
        {"path": "/async/"},
    ],
    ids=["another value", "other bytes", "no body", "another query", "another path"],
)
def test_different_request_with_the_key(other, user_client):
    """422, and nothing is stored. The first request can still be repeated."""
    first = post(user_client)
    for _ in range(2):
        data = assert_problem(post(user_client, **other), 422)
        assert "with a new key" in data["detail"]
    assert count_rows() == (1, 1)
    assert_replay(first, post(user_client))


def test_different_method(user_client):
    post(user_client)
    assert_problem(user_client.put("/plain/", '{"n": 1}', headers=KEY), 422)


def test_keys_are_separate_for_each_user(user_client, other_user, client_of):
    """Other users and anonymous clients can use the same key."""
    responses = [post(user_client), post(client_of(other_user)), post(Client())]
    assert len({response.json()["id"] for response in responses}) == 3
    assert not any("Idempotency-Replayed" in response for response in responses)
    assert_problem(post(client_of(other_user), body="other"), 422)
    assert post(Client())["Idempotency-Replayed"] == "true"


def test_keys_of_using_are_separate(user_client, user):
    """A header cannot take a key of .using(key=…), nor the other way round."""
    key = "invoice:7"
    first = post(user_client, key={"Idempotency-Key": key})
    with requester(user):
        other = double.using(key=key).enqueue(5)
        assert double.using(key=key).enqueue(5).id == other.id != first.json()["id"]
    assert post(user_client, key={"Idempotency-Key": key})["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "ä", "a\tb", "x" * 201, "a\x7f", "\x00", "ключ".encode().decode("latin-1")]
)
def test_invalid_keys(key, user_client):
    """400 that tells what a key must be."""
    data = assert_problem(post(user_client, key={"Idempotency-Key": key}), 400)
    assert "1 to 200 visible ASCII characters" in data["detail"]
    assert count_rows() == (0, 0)


@pytest.mark.parametrize("key", ["~", "x" * 195, "x" * 196, "~" * 200, '"quoted"', "a,b"])
def test_valid_keys(key, user_client):
    key = {"Idempotency-Key": key}
    assert_replay(post(user_client, key=key), post(user_client, key=key))


def test_long_keys_are_compared_whole(user_client):
    keys = [{"Idempotency-Key": "x" * 199 + end} for end in "ab"]
    assert len({post(user_client, key=key).json()["id"] for key in keys}) == 2


def test_key_expires_after_24_hours(user_client):
    """A request with an expired key gets a new job."""
    first = post(user_client)
    left = Job.objects.get().idempotency_expires_at - timezone.now()
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
    second = post(user_client, body="another")
    assert (second.status_code, count_rows()) == (202, (2, 2))
    assert second.json()["id"] != first.json()["id"]
    assert post(user_client, body="another")["Idempotency-Replayed"] == "true"


def test_job_with_a_key_is_not_pruned_for_24_hours(user_client):
    """If it were pruned, a repeated request would enqueue it again."""
    first = post(user_client)
    run_jobs()
    call_command("notifications", "prune", days=0)
    assert_replay(first, post(user_client))
    Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
    call_command("notifications", "prune", days=0)
    assert not Job.objects.exists()
    assert post(user_client).json()["id"] != first.json()["id"]


def test_failed_requests_do_not_store_the_key(user_client):
    """A corrected request can use the key again."""
    assert user_client.post("/refused/", headers=KEY).status_code == 422
    assert post(user_client, "/fails/").status_code == 500
    assert count_rows() == (0, 0)
    assert post(user_client).status_code == 202


class TestForms:
    """Forms are compared by fields and files: a repeated form has another boundary, and maybe another CSRF token."""

    def test_equal_fields(self, user_client):
        data = {"a": ["1", "2"], "b": "ä"}
        first = user_client.post("/plain/", data, headers=KEY)
        assert_replay(first, user_client.post("/plain/", data, headers=KEY))

    @pytest.mark.parametrize(
        "other",
        [{"a": "1"}, {"a": ["1"], "b": "2"}, {"a": ["2", "1"]}, {"a": ["1", "2"], "c": ""}, {"a2": "1"}, {}],
    )
    def test_different_fields(self, other, user_client):
        user_client.post("/plain/", {"a": ["1", "2"]}, headers=KEY)
        assert_problem(user_client.post("/plain/", other, headers=KEY), 422)

    def test_csrf_token_is_not_compared(self, user, client_of):
        """The token is a field of the form. It changes with each sign-in."""
        client = client_of(user, enforce_csrf_checks=True)
        responses = []
        for token in ("a" * 32, "b" * 32):
            client.cookies["csrftoken"] = token
            body = f"csrfmiddlewaretoken={token}&n=1"
            responses.append(
                client.post("/csrf/", body, content_type="application/x-www-form-urlencoded", headers=KEY)
            )
        assert_replay(*responses)
        client.cookies["csrftoken"] = token
        other = client.post("/csrf/", {"csrfmiddlewaretoken": token, "n": "2"}, headers=KEY)
        assert_problem(other, 422)

    @pytest.mark.parametrize("size", [10, 3_000_000], ids=["in memory", "on disk"])
    def test_files(self, size, user_client, settings):
        """Files are compared by name, size and content. The position of the view in a file is kept."""
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
        content = b"abc" + b"x" * size

        def send(content, name="urls.txt"):
            file = SimpleUploadedFile(name, content)
            return user_client.post("/files/", {"title": "t", "file": file}, headers=KEY)

        first = send(content)
        assert Group.objects.get().name == f"abc|{'x' * min(size, 100)}|{size}"
        assert_replay(first, send(content))
        for other in ((content[:-1] + b"y",), (content + b"x",), (content, "other.txt")):
            assert_problem(send(*other), 422)

    def test_too_large(self, user_client, settings):
        """413, or 400 for a broken form. Nothing is enqueued."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        assert_problem(user_client.post("/plain/", {"a": "x" * 200}, headers=KEY), 413)
        assert_problem(post(user_client, body="x" * 200), 413)
        settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
        assert_problem(user_client.post("/plain/", {str(n): "" for n in range(5)}, headers=KEY), 400)
        assert_problem(user_client.post("/plain/", "x", content_type="multipart/form-data", headers=KEY), 400)
        assert count_rows() == (0, 0)


def test_body_that_the_view_has_read(user_client):
    """Only method, path and query are compared."""
    first = post(user_client, "/read/", "a")
    assert_replay(first, post(user_client, "/read/", "b"))
    assert_problem(post(user_client, "/read/?n=1"), 422)


class TestJobOfTheKey:
    def test_job_with_a_key_of_using(self, user_client):
        """The job keeps the key of .using(), so a repeated request enqueues again and finds the job by that key."""
        first, again = post(user_client, "/own-key/"), post(user_client, "/own-key/")
        assert again.json()["id"] == first.json()["id"]
        assert count_rows() == (1, 2)
        assert Job.objects.get().idempotency_key == "own"

    def test_job_with_a_queued_key(self, user_client, monkeypatch):
        """The job keeps it until it begins. A request that is repeated after that enqueues another one."""
        monkeypatch.setattr(views, "enqueue_double", lambda: double.using(queued_key="index").enqueue(21))
        first, again = post(user_client), post(user_client)
        assert again.json()["id"] == first.json()["id"]
        run_jobs()
        assert post(user_client).json()["id"] != first.json()["id"]
        assert Job.objects.count() == 2

    def test_existing_job(self, user_client):
        """The key is stored on an existing job as on a new one."""
        first = post(user_client, "/same/", key={})
        second = post(user_client, "/same/")
        assert second.json()["id"] == first.json()["id"] and "Idempotency-Replayed" not in second
        assert post(user_client, "/same/")["Idempotency-Replayed"] == "true"
        assert_problem(post(user_client, "/same/", body="other"), 422)

    def test_job_of_another_owner(self, user_client, other_user):
        """The key is stored for the owner. A repeated request enqueues again and is rolled back."""
        first = post(user_client, "/bob/")
        assert_replay(first, post(user_client, "/bob/"))
        assert_problem(post(user_client, "/bob/", body="other"), 422)
        assert count_rows() == (1, 1)

    def test_job_of_another_owner_after_24_hours(self, user_client, other_user):
        post(user_client, "/bob/")
        Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
        again = post(user_client, "/bob/", body="other")
        assert (again.status_code, count_rows()) == (202, (2, 2))

    def test_batch(self, user_client):
        first, again = post(user_client, "/batch/"), post(user_client, "/batch/")
        assert again.json()["id"] == first.json()["id"] and again["Idempotency-Replayed"] == "true"
        assert Job.objects.count() == 3


def test_replay_at_the_limit_of_active_jobs(user_client, settings):
    settings.NOTIFICATIONS = {"ACTIVE_JOBS_PER_USER": 1}
    first = post(user_client)
    assert_replay(first, post(user_client))
    assert_problem(post(user_client, key={"Idempotency-Key": "another"}), 429)
    assert count_rows() == (1, 1)


def test_under_atomic_requests(transactional_db, user_client, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    assert_replay(post(user_client), post(user_client))


@pytest.mark.parametrize("has_owner", [True, False])
def test_key_lookup_uses_an_index(has_owner, user_client):
    """For jobs with and without an owner."""
    with CaptureQueriesContext(connection) as captured:
        post(user_client if has_owner else Client())
    query = next(query for query in captured if re.search("SELECT .*WHERE .*idempotency_key", query["sql"]))
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(explain + query["sql"])
        plan = str(cursor.fetchall())
    name = "notifications_job_key" if has_owner else "notifications_job_key_nobody"
    assert re.search(rf"({name}|notifications_job_key_any)\b", plan), plan


def test_whitespace_around_a_key_is_ignored(user_client):
    assert_replay(
        post(user_client), post(user_client, key={"Idempotency-Key": f" {KEY['Idempotency-Key']}\t"})
    )


def test_closed_file(user_client):
    """It cannot be compared: ValueError, and nothing is enqueued."""
    file = SimpleUploadedFile("a.txt", b"aaaa")
    user_client.raise_request_exception = True
    with pytest.raises(ValueError, match="was closed before accepted"):
        user_client.post("/closed/", {"file": file}, headers=KEY)
    assert count_rows() == (0, 0)


def test_keys_are_separate_for_each_requester(user_client, other_user, make_user, client_of):
    """The first request of Carol is not a replay of Ada's, although Bob owns both jobs."""
    first, again = post(user_client, "/bob/"), post(user_client, "/bob/")
    assert_replay(first, again)
    other = post(client_of(make_user("carol")), "/bob/")
    assert other.status_code == 202 and "Idempotency-Replayed" not in other
    assert other.json()["id"] != first.json()["id"] and count_rows() == (2, 2)


@pytest.mark.parametrize("url", ["/отчёт/7/", "https://пример.рф/x", "/a?x=ü#ф"])
def test_redirect_to_a_url_that_is_not_ascii(user_client, url, monkeypatch):
    monkeypatch.setattr(views, "enqueue_double", lambda: views.double.using(url=url).enqueue())
    location = post(user_client, key={}, **BROWSER)["Location"]
    assert location.isascii() and location == iri_to_uri(url)

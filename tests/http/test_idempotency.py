"""Idempotency-Key: the same request again gets the same job, and asks for nothing."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.encoding import iri_to_uri

from notifications.api import requester
from notifications.jobs.enqueueing import unique
from notifications.models import Job, Ring
from notifications.streams.retention import prune
from notifications.testing import run_jobs
from tests.http import views
from tests.http.conftest import BROWSER, assert_problem
from tests.http.views import double

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def post(client, path="/plain/", body='{"n": 1}', *, key=KEY, **headers):
    return client.post(path, body, content_type="application/json", headers={**key, **headers})


def counts():
    return Job.objects.count(), Group.objects.count()


def assert_replay(first, again):
    """The same job, said to be a replay, and the first was none; one job and one row beside it in all."""
    assert (first.status_code, again.status_code) == (202, 202), again.content
    assert again.json()["id"] == first.json()["id"]
    assert again["Location"] == first["Location"]
    assert "Idempotency-Replayed" not in first and again["Idempotency-Replayed"] == "true"
    assert counts() == (1, 1)


@pytest.mark.parametrize("path", ["/plain/", "/async/"])
def test_the_same_again(path, user_client):
    """Once asked for, however often it is sent."""
    first = post(user_client, path)
    rings = Ring.objects.count()
    for _ in range(2):
        assert_replay(first, post(user_client, path))
    assert Ring.objects.count() == rings


def test_a_replay_does_not_ask(user_client, monkeypatch):
    """What ask does beside the database would not be rolled back."""
    asked, asks = views.ask, []
    monkeypatch.setattr(views, "ask", lambda: asks.append(1) or asked())
    for _ in range(3):
        assert post(user_client).status_code == 202
    assert len(asks) == 1


def test_without_a_key_each_is_another(user_client):
    for _ in range(2):
        assert "Idempotency-Replayed" not in post(user_client, key={})
    assert counts() == (2, 2)


def test_a_replay_shows_the_job_as_it_is(user_client):
    """Done meanwhile, it is still the answer that it was accepted."""
    first = post(user_client)
    run_jobs()
    again = post(user_client)
    assert_replay(first, again)
    assert again.json()["state"] == "succeeded" and again["Retry-After"] == "1"


def test_a_browser_is_sent_to_the_page_again(user_client):
    first, again = post(user_client, **BROWSER), post(user_client, **BROWSER)
    assert (first.status_code, again.status_code) == (303, 303)
    assert again["Location"] == first["Location"] and again["Idempotency-Replayed"] == "true"
    assert counts() == (1, 1)


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
def test_another_request_with_the_key(other, user_client):
    """422, for as long as the key is kept, and nothing is stored; the first one is still answered."""
    first = post(user_client)
    for _ in range(2):
        told = assert_problem(post(user_client, **other), 422)
        assert "with a new key" in told["detail"]
    assert counts() == (1, 1)
    assert_replay(first, post(user_client))


def test_another_method(user_client):
    post(user_client)
    assert_problem(user_client.put("/plain/", '{"n": 1}', headers=KEY), 422)


def test_the_key_is_its_users(user_client, other_user, client_of):
    """Somebody else, and nobody, may have the same one."""
    answers = [post(user_client), post(client_of(other_user)), post(Client())]
    assert len({answer.json()["id"] for answer in answers}) == 3
    assert not any("Idempotency-Replayed" in answer for answer in answers)
    assert_problem(post(client_of(other_user), body="other"), 422)
    assert post(Client())["Idempotency-Replayed"] == "true"


def test_a_program_has_keys_of_its_own(user_client, user):
    """Nobody can take by a header the key that code uses, nor the other way round."""
    key = "invoice:7"
    asked = post(user_client, key={"Idempotency-Key": key})
    with requester(user):
        other = double.using(key=key).enqueue(5)
        assert double.using(key=key).enqueue(5).id == other.id != asked.json()["id"]
    assert post(user_client, key={"Idempotency-Key": key})["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "ä", "a\tb", "x" * 201, "a\x7f", "\x00", "ключ".encode().decode("latin-1")]
)
def test_keys_that_are_refused(key, user_client):
    """400 that says what a key is."""
    told = assert_problem(post(user_client, key={"Idempotency-Key": key}), 400)
    assert "1 to 200 visible ASCII characters" in told["detail"]
    assert counts() == (0, 0)


@pytest.mark.parametrize("key", ["~", "x" * 195, "x" * 196, "~" * 200, '"quoted"', "a,b"])
def test_keys_that_are_taken(key, user_client):
    key = {"Idempotency-Key": key}
    assert_replay(post(user_client, key=key), post(user_client, key=key))


def test_long_keys_differ_at_their_ends(user_client):
    keys = [{"Idempotency-Key": "x" * 199 + end} for end in "ab"]
    assert len({post(user_client, key=key).json()["id"] for key in keys}) == 2


def test_a_day_later_it_is_free(user_client):
    """Whoever takes it then gets a new job; the old one stays."""
    first = post(user_client)
    left = Job.objects.get().idempotency_expires_at - timezone.now()
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
    second = post(user_client, body="another")
    assert (second.status_code, counts()) == (202, (2, 2))
    assert second.json()["id"] != first.json()["id"]
    assert post(user_client, body="another")["Idempotency-Replayed"] == "true"


def test_a_job_with_a_key_is_kept_for_a_day(user_client):
    """Pruned, it would be asked for again. When it is, its key is free."""
    first = post(user_client)
    run_jobs()
    assert prune(timezone.now() + timedelta(hours=1)) == 0
    assert_replay(first, post(user_client))
    Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
    prune(timezone.now() + timedelta(hours=1))
    assert not Job.objects.exists()
    assert post(user_client).json()["id"] != first.json()["id"]


def test_what_was_refused_is_asked_again(user_client):
    """An answer of the view's own stores nothing, nor does an ask that fails: mended, it may come with the key."""
    assert user_client.post("/refused/", headers=KEY).status_code == 422
    assert post(user_client, "/fails/").status_code == 500
    assert counts() == (0, 0)
    assert post(user_client).status_code == 202


class TestForms:
    """Hashed by fields and files: a retry has another boundary, and after a sign-in another CSRF token."""

    def test_the_same_fields(self, user_client):
        told = {"a": ["1", "2"], "b": "ä"}
        first = user_client.post("/plain/", told, headers=KEY)
        assert_replay(first, user_client.post("/plain/", told, headers=KEY))

    @pytest.mark.parametrize(
        "other",
        [{"a": "1"}, {"a": ["1"], "b": "2"}, {"a": ["2", "1"]}, {"a": ["1", "2"], "c": ""}, {"a2": "1"}, {}],
    )
    def test_other_fields(self, other, user_client):
        user_client.post("/plain/", {"a": ["1", "2"]}, headers=KEY)
        assert_problem(user_client.post("/plain/", other, headers=KEY), 422)

    def test_after_the_csrf_check_has_read_it(self, user, client_of):
        """With the token in the form, which is not part of the wish."""
        client = client_of(user, enforce_csrf_checks=True)
        answers = []
        for token in ("a" * 32, "b" * 32):
            client.cookies["csrftoken"] = token
            body = f"csrfmiddlewaretoken={token}&n=1"
            answers.append(
                client.post("/csrf/", body, content_type="application/x-www-form-urlencoded", headers=KEY)
            )
        assert_replay(*answers)
        client.cookies["csrftoken"] = token
        other = client.post("/csrf/", {"csrfmiddlewaretoken": token, "n": "2"}, headers=KEY)
        assert_problem(other, 422)

    @pytest.mark.parametrize("size", [10, 3_000_000], ids=["in memory", "on disk"])
    def test_files(self, size, user_client, settings):
        """By name, size and content; where the view stands in a file stays."""
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
        """413, and 400 where it is no form at all, before anything is asked."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        assert_problem(user_client.post("/plain/", {"a": "x" * 200}, headers=KEY), 413)
        assert_problem(post(user_client, body="x" * 200), 413)
        settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
        assert_problem(user_client.post("/plain/", {str(n): "" for n in range(5)}, headers=KEY), 400)
        assert_problem(user_client.post("/plain/", "x", content_type="multipart/form-data", headers=KEY), 400)
        assert counts() == (0, 0)


def test_a_body_that_the_view_has_read(user_client):
    """Then it is method, path and query that count."""
    first = post(user_client, "/read/", "a")
    assert_replay(first, post(user_client, "/read/", "b"))
    assert_problem(post(user_client, "/read/?n=1"), 422)


class TestJobsOfAsks:
    def test_with_a_key_of_its_own(self, user_client):
        """A job has one key, and the one that the code gave stays: ask runs again, and finds the job by it."""
        first, again = post(user_client, "/own-key/"), post(user_client, "/own-key/")
        assert again.json()["id"] == first.json()["id"]
        assert counts() == (1, 2)
        assert Job.objects.get().idempotency_key == "own"

    def test_that_was_there_before(self, user_client):
        """It takes the key as a new one does."""
        first = post(user_client, "/same/", key={})
        second = post(user_client, "/same/")
        assert second.json()["id"] == first.json()["id"] and "Idempotency-Replayed" not in second
        assert post(user_client, "/same/")["Idempotency-Replayed"] == "true"
        assert_problem(post(user_client, "/same/", body="other"), 422)

    def test_of_somebody_else(self, user_client, other_user):
        """Its owner has the key: ask runs again, and is rolled back."""
        first = post(user_client, "/bob/")
        assert_replay(first, post(user_client, "/bob/"))
        assert_problem(post(user_client, "/bob/", body="other"), 422)
        assert counts() == (1, 1)

    def test_of_somebody_else_a_day_later(self, user_client, other_user):
        post(user_client, "/bob/")
        Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
        again = post(user_client, "/bob/", body="other")
        assert (again.status_code, counts()) == (202, (2, 2))

    def test_a_batch(self, user_client):
        first, again = post(user_client, "/batch/"), post(user_client, "/batch/")
        assert again.json()["id"] == first.json()["id"] and again["Idempotency-Replayed"] == "true"
        assert Job.objects.count() == 3


def test_too_many_jobs_do_not_hide_a_replay(user_client, settings):
    settings.NOTIFICATIONS = {"ACTIVE_JOBS_PER_USER": 1}
    first = post(user_client)
    assert_replay(first, post(user_client))
    assert_problem(post(user_client, key={"Idempotency-Key": "another"}), 429)
    assert counts() == (1, 1)


def test_under_atomic_requests(transactional_db, user_client, monkeypatch):
    """The key is committed with the request."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert_replay(post(user_client), post(user_client))


@pytest.mark.parametrize("owned", [True, False])
def test_keys_are_looked_up_by_their_index(owned, user):
    """Of users, and of nobody; no statement walks through the jobs."""
    with CaptureQueriesContext(connection) as captured:
        assert unique.job_with_key(user.pk if owned else None, "http k") is None
    [query] = captured.captured_queries
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(explain + query["sql"])
        plan = str(cursor.fetchall())
    name = "notifications_job_key" if owned else "notifications_job_key_nobody"
    assert re.search(rf"{name}\b", plan), plan


def test_blanks_around_a_key_are_no_part_of_it(user_client):
    assert_replay(
        post(user_client), post(user_client, key={"Idempotency-Key": f" {KEY['Idempotency-Key']}\t"})
    )


def test_a_file_that_is_closed_already(user_client):
    """It cannot be compared: nothing is asked, and whoever wrote the view is told."""
    file = SimpleUploadedFile("a.txt", b"aaaa")
    user_client.raise_request_exception = True
    with pytest.raises(ValueError, match="was closed before accepted"):
        user_client.post("/closed/", {"file": file}, headers=KEY)
    assert counts() == (0, 0)


def test_for_somebody_else_keys_are_the_askers_own(user_client, other_user, django_user_model, client_of):
    """Carol's first request is no replay of Ada's, though Bob is who gets both jobs."""
    first, again = post(user_client, "/bob/"), post(user_client, "/bob/")
    assert_replay(first, again)
    other = post(client_of(django_user_model.objects.create_user("carol")), "/bob/")
    assert other.status_code == 202 and "Idempotency-Replayed" not in other
    assert other.json()["id"] != first.json()["id"] and counts() == (2, 2)


@pytest.mark.parametrize("url", ["/отчёт/7/", "https://пример.рф/x", "/a?x=ü#ф"])
def test_a_browser_is_sent_to_an_address_that_is_no_ascii(user_client, url, monkeypatch):
    monkeypatch.setattr(views, "ask", lambda: views.double.using(url=url).enqueue())
    location = post(user_client, key={}, **BROWSER)["Location"]
    assert location.isascii() and location == iri_to_uri(url)

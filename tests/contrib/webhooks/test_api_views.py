"""The API of webhooks."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.models import Job, uuid7
from notifications.testing import run_jobs
from tests.contrib.webhooks.endpoints.conftest import receiver, reset_circuits, webhooks_on  # noqa: F401 (fixtures)
from tests.contrib.webhooks.endpoints.receiver import signers
from tests.contrib.webhooks.endpoints.test_endpoints import ALL_EVENTS
from tests.http.conftest import assert_problem
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

API = "/notifications/api/webhooks/"
URL = "https://hooks.example/jobs"
NIL = "00000000-0000-0000-0000-000000000000"
PARTS = ("", "rotate/", "test/", "resend/", "attempts/")


def post(client, path="", body=None):
    return client.post(f"{API}{path}", {} if body is None else body, content_type="application/json")


def fail(endpoint, user):
    """Have an event of the user fail in all attempts, and return its job."""
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    job = Job.objects.get(
        task_path="notifications.contrib.webhooks.sending.send", args__contains=str(endpoint)
    )
    Job.objects.filter(pk=job.pk).update(state="failed", finished_at=timezone.now(), seq=0)
    return job


def test_life(user_client, user):
    """A webhook is created, listed, changed and deleted. Its secret is only in the response that created it."""
    created = post(user_client, body={"url": URL, "events": ["job.failed"], "description": "CRM"})
    assert created.status_code == 201
    document = created.json()
    [row] = webhooks.endpoints_of(user)
    assert document.pop("secret") == row.secret and row.url == URL
    assert (document["enabled"], document["events"], document["description"]) == (True, ["job.failed"], "CRM")
    path = f"{document['id']}/"
    assert user_client.get(API).json() == {"items": [document]}
    assert user_client.get(API + path).json() == document
    changed = post(
        user_client, path, {"events": ["job.succeeded"], "enabled": False, "description": ""}
    ).json()
    assert changed["disabled_at"] and changed["disabled_reason"] == "by-hand"
    assert (changed["enabled"], changed["events"], changed["url"]) == (False, ["job.succeeded"], URL)
    changed = post(user_client, path, {"url": f"{URL}/2", "enabled": True}).json()
    assert (changed["enabled"], changed["disabled_at"], changed["url"]) == (True, None, f"{URL}/2")
    assert post(user_client, path).json() == changed
    deleted = user_client.delete(API + path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert_problem(user_client.get(API + path), 404)


def test_webhook_without_events_gets_all(user_client):
    assert set(post(user_client, body={"url": URL}).json()["events"]) == ALL_EVENTS


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "url", "url is missing"),
        ({"url": 5}, "url", "must be a string"),
        ({"url": "https://10.0.0.1/"}, "url", "Use a URL on the public internet"),
        ({"url": "https://[::1]/"}, "url", "Use a URL on the public internet"),
        ({"url": "https://localhost/"}, "url", "Use a URL on the public internet"),
        ({"url": "https://api.LOCALHOST./"}, "url", "Use a URL on the public internet"),
        ({"url": "http://hooks.example/"}, "url", "begins with https://"),
        ({"url": URL, "events": "job.failed"}, "events", "a list of names"),
        ({"url": URL, "events": [["job.failed"]]}, "events", "a list of names"),
        ({"url": URL, "events": []}, "events", "some of: job.succeeded"),
        ({"url": URL, "description": "x" * 201}, "description", "201 characters"),
    ],
)
def test_bad_values(user_client, user, body, field, words):
    """Also in a change, which then changes nothing."""
    webhook = webhooks.create(URL, owner=user)
    for path in ("", f"{webhook.id}/") if body else ("",):
        problem = assert_problem(post(user_client, path, body), 422)
        assert problem["errors"][0]["field"] == field and words in problem["detail"]
    assert webhooks.endpoints_of(user) == [webhook]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("", {"enabled": 1}, "enabled"),
        ("rotate/", {"overlap": -1}, "overlap"),
        ("rotate/", {"overlap": 31 * 86400}, "overlap"),
        ("resend/", {}, "message_id"),
        ("resend/", {"message_id": "x"}, "message_id"),
    ],
)
def test_bad_values_of_one(user_client, user, path, body, field):
    webhook = webhooks.create(URL, owner=user)
    problem = assert_problem(post(user_client, f"{webhook.id}/{path}", body), 422)
    assert problem["errors"][0]["field"] == field
    assert webhooks.endpoints_of(user) == [webhook]


def test_limit(user_client, user):
    for _ in range(10):
        webhooks.create(URL, owner=user)
    assert "Delete one first" in assert_problem(post(user_client, body={"url": URL}), 409)["detail"]


@pytest.mark.parametrize("part", PARTS)
def test_webhooks_of_others(user_client, other_user, part):
    """Those of another user and of the site are 404, like one that does not exist, and stay as they are."""
    others = [webhooks.create(URL, owner=other_user), webhooks.create(URL)]
    before = list(WebhookEndpoint.objects.order_by("id").values())
    for id in (*(other.id for other in others), uuid4()):
        responses = [user_client.get(f"{API}{id}/{part}")]
        if part != "attempts/":
            body = {"url": "https://other.example/", "enabled": False, "message_id": str(uuid4())}
            responses = [post(user_client, f"{id}/{part}", body)]
        if not part:
            responses.append(user_client.delete(f"{API}{id}/"))
        for response in responses:
            assert "GET webhooks/" in assert_problem(response, 404)["detail"]
    assert list(WebhookEndpoint.objects.order_by("id").values()) == before
    assert user_client.get(API).json() == {"items": []} and not Job.objects.exists()


@pytest.mark.parametrize("path", ["", *(f"{NIL}/{part}" for part in PARTS)])
def test_webhooks_that_are_off(user_client, settings, path):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": False}
    response = user_client.get(API + path) if path.endswith("attempts/") else post(user_client, path)
    assert "Webhooks are off" in assert_problem(response, 404)["detail"]


def test_signed_out_and_csrf(client, client_of, user):
    """A token of an authenticator needs no CSRF token: test_authenticators.py has that for all views of the API."""
    webhook = webhooks.create(URL, owner=user)
    assert_problem(client.get(API), 401)
    strict = client_of(user, enforce_csrf_checks=True)
    for path in ("", f"{webhook.id}/", f"{webhook.id}/rotate/"):
        assert_problem(post(strict, path, {"url": URL}), 403)
    assert_problem(strict.delete(f"{API}{webhook.id}/"), 403)
    assert webhooks.endpoints_of(user) == [webhook]


def test_rotation(user_client, user):
    webhook = webhooks.create(URL, owner=user)
    secret = post(user_client, f"{webhook.id}/rotate/").json()["secret"]
    row = WebhookEndpoint.objects.get()
    assert (row.secret, row.previous_secret) == (secret, webhook.secret) and secret != webhook.secret
    left = row.previous_until - timezone.now()
    assert timedelta(hours=23) < left <= timedelta(days=1)
    post(user_client, f"{webhook.id}/rotate/", {"overlap": 0})
    assert WebhookEndpoint.objects.get().previous_until is None


def test_test_event(user_client, user, other_user, client_of, receiver):  # noqa: F811
    """It is a job of the user, who follows it, and counts in the limits of the user. It makes no notification."""
    webhook = webhooks.create(receiver.url("/hook"), owner=user)
    response = post(user_client, f"{webhook.id}/test/")
    job = response.json()
    assert response.status_code == 202 and response["Location"] == job["links"]["self"]
    assert_problem(client_of(other_user).get(response["Location"]), 404)
    run_jobs()
    [request] = receiver.requests
    assert receiver.events[0]["type"] == "webhook.test" and receiver.ids == [job["id"]]
    assert signers(request, webhook.secret) == [webhook.secret]
    assert user_client.get(job["links"]["self"]).json()["state"] == "succeeded"
    assert user_client.get("/notifications/api/notifications/").json()["items"] == []
    [attempt] = user_client.get(f"{API}{webhook.id}/attempts/").json()["items"]
    assert (attempt["message_id"], attempt["status"], attempt["event"]) == (job["id"], 204, "webhook.test")


def test_a_test_event_is_accepted_once(user_client, user):
    webhook = webhooks.create(URL, owner=user)
    path = f"{API}{webhook.id}/test/"
    first, again = (user_client.post(path, headers={"Idempotency-Key": "a"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() and again["Idempotency-Replayed"] == "true"


def test_too_many_test_events(user_client, user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    webhook = webhooks.create(URL, owner=user)
    assert post(user_client, f"{webhook.id}/test/").status_code == 202
    response = post(user_client, f"{webhook.id}/test/")
    assert_problem(response, 429)
    assert response["Retry-After"] == "10"


def test_test_events_count_in_the_rate_limit(user_client, user, settings):
    """Together with all other jobs of the user."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "JOBS_PER_MINUTE": 2}
    webhook = webhooks.create(URL, owner=user)
    tasks.noop.using(owner=user).enqueue()
    assert post(user_client, f"{webhook.id}/test/").status_code == 202
    response = post(user_client, f"{webhook.id}/test/")
    assert "2 jobs were enqueued within a minute." in assert_problem(response, 429)["detail"]
    assert 0 < int(response["Retry-After"]) <= 60 and Job.objects.count() == 2


def test_resend(user_client, user, receiver):  # noqa: F811
    """An event that has failed is sent again, with the same id. One that has not is 409."""
    webhook = webhooks.create(receiver.url("/hook"), owner=user, events=["job.succeeded"])
    job = fail(webhook.id, user)
    receiver.requests.clear()
    path, body = f"{webhook.id}/resend/", {"message_id": str(job.pk)}
    response = post(user_client, path, body)
    assert (response.status_code, response.json()) == (202, body)
    assert_problem(post(user_client, path, body), 409)
    run_jobs()
    assert receiver.ids == [str(job.pk)]
    assert_problem(post(user_client, path, body), 409)


def test_resend_of_events_of_other_webhooks(user_client, user, other_user):
    """Nor does it retry other failed jobs of the user."""
    mine = webhooks.create(URL, owner=user)
    event = fail(webhooks.create(URL, owner=other_user, events=["job.succeeded"]).id, other_user)
    tasks.fail.using(owner=user).enqueue()
    run_jobs()
    failed = Job.objects.get(user=user)
    for id in (event.pk, failed.pk):
        assert_problem(post(user_client, f"{mine.id}/resend/", {"message_id": str(id)}), 404)
    assert set(Job.objects.filter(pk__in=(event.pk, failed.pk)).values_list("state", flat=True)) == {"failed"}


def test_attempts(user_client, user):
    """They are listed newest first, in pages that neither repeat nor skip one."""
    webhook, other = webhooks.create(URL, owner=user), webhooks.create(URL, owner=user)
    now = timezone.now()
    rows = [
        WebhookAttempt(
            id=uuid7(), endpoint=endpoint.id, job=uuid7(), event="job.failed", milliseconds=5,
            # Two begin at the same time.
            started_at=now - timedelta(seconds=number // 2), status=None if number else 500, error="Timeout",
        )
        for endpoint in (webhook, other)
        for number in range(5)
    ]  # fmt: skip
    WebhookAttempt.objects.bulk_create(rows)
    path, found, after = f"{API}{webhook.id}/attempts/?limit=2", [], ""
    while after is not None:
        page = user_client.get(path + (after and f"&after={after}")).json()
        found += page["items"]
        after = page["next"]
    expected = sorted(rows[:5], key=lambda row: (row.started_at, row.id), reverse=True)
    assert [item["id"] for item in found] == [str(row.id) for row in expected]
    assert {item["status"] for item in found} == {None, 500} and found[0]["error"] == "Timeout"
    for after in ("x", "1.x", "1.2.3", "9" * 30 + "." + "0" * 32):
        assert_problem(user_client.get(f"{path}&after={after}"), 422)

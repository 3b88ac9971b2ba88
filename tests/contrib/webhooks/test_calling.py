"""A request sends a URL with its job, which is called when the job ends."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import RequestFactory

from notifications.api import accepted
from notifications.contrib.webhooks.calling import call, store_url
from notifications.contrib.webhooks.models import JobCallback, WebhookAttempt
from notifications.inbox import read_timeline
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.webhooks.endpoints.conftest import *  # noqa: F403 (fixtures)
from tests.jobs import tasks
from tests.outbound.conftest import resolve_names  # noqa: F401 (a fixture)

HEADER = "Callback-URL"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def origins(settings, receiver):
    """Allow the origin of the receiver."""
    origin = receiver.url("").rstrip("/")
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CALLBACK_ORIGINS": [origin]}
    return origin


@pytest.fixture
def request_job(user):
    """request_job(url, task, **headers) enqueues a job by a request of the user, and returns the response."""

    def request_job(url=None, task=tasks.add, args=(1, 2), using=None, **headers):
        if url is not None:
            headers[HEADER] = url
        request = RequestFactory().post("/", b"{}", content_type="application/json", headers=headers)
        request.user = user
        return accepted(request, lambda: task.using(title="Export", **(using or {})).enqueue(*args))

    return request_job


def job_of(response):
    return Job.objects.get(id=json.loads(response.content)["id"])


def texts(row):
    return [event.text for event in read_timeline(row) if "Callback" in event.text]


def test_end_of_a_job(origins, receiver, request_job):
    """What it gets names the job and how it has ended, and has nothing that only the owner may read."""
    url = receiver.url("/hook?token=secret")
    response = request_job(url)
    assert (response.status_code, response[HEADER]) == (202, url)
    job = job_of(response)
    run_jobs()
    [request], [event] = receiver.requests, receiver.events
    calling = Job.objects.get(task_path=call.module_path)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["webhook-id"] == str(calling.id)
    assert "webhook-signature" not in request.headers
    assert calling.concurrency_key == f"send:{job.user_id}"  # it counts for its owner
    job.refresh_from_db()
    assert event == {
        "type": "job.succeeded",
        "id": f"{job.id}:{job.fence}",
        "at": event["at"],
        "job": {"id": str(job.id), "state": "succeeded", "url": response["Location"]},
    }
    # The URL may have a secret: it is in no job's arguments or title.
    assert "secret" not in calling.args + calling.title + str(calling.result)
    [attempt] = WebhookAttempt.objects.all()
    assert (attempt.endpoint, attempt.job, attempt.event, attempt.status) == (
        *(job.id, calling.id, "job.succeeded", 204),
    )


def test_absolute_url(settings, origins, receiver, request_job):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SITE_URL": "https://site.example"}
    response = request_job(receiver.url("/hook"))
    run_jobs()
    assert receiver.events[0]["job"]["url"] == "https://site.example" + response["Location"]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_other_ends(origins, receiver, request_job, state):
    response = request_job(receiver.url("/hook"), tasks.fail, ())
    if state == "cancelled":
        cancel([job_of(response).id])
    run_jobs()
    assert [(event["type"], event["job"]["state"]) for event in receiver.events] == [(f"job.{state}", state)]


def test_without_the_header(origins, receiver, request_job):
    assert HEADER not in request_job()
    run_jobs()
    assert not receiver.requests and not JobCallback.objects.exists()


@pytest.mark.parametrize("status", [500, 429, 302])
def test_failure_is_tried_again(origins, receiver, request_job, status):
    """With the same id, as long as webhooks are."""
    receiver.answers = [status, status]
    response = request_job(receiver.url("/hook"))
    run_until_idle()
    assert len(receiver.requests) == 3 and len(set(receiver.ids)) == 1
    assert list(WebhookAttempt.objects.order_by("id").values_list("status", flat=True)) == [
        *(status, status, 204),
    ]
    row = Notification.objects.get(job=job_of(response).id)
    assert [text.partition(" after")[0] for text in texts(row)] == [
        *[f"Callback to 127.0.0.1: status {status}"] * 2,
        "Callback to 127.0.0.1: status 204",
    ]


def test_gone(origins, receiver, request_job):
    """410 ends it; a retry of its job by hand calls it again."""
    receiver.answers = [410]
    request_job(receiver.url("/hook"))
    run_until_idle()
    calling = Job.objects.get(task_path=call.module_path)
    assert (calling.state, len(receiver.requests)) == ("failed", 1)
    retry([calling.id])
    run_until_idle()
    assert len(receiver.requests) == 2 and receiver.ids[0] == receiver.ids[1]


def test_second_end(origins, receiver, request_job):
    """A job that is retried by hand calls it again when it ends again, as another event."""
    response = request_job(receiver.url("/hook"), tasks.fail, ())
    run_until_idle()
    retry([job_of(response).id])
    run_until_idle()
    assert len(receiver.requests) == 2 and len({event["id"] for event in receiver.events}) == 2


@pytest.mark.with_all_apps("explain is the command of deliveries")
def test_explained(origins, receiver, request_job, admin_client, capsys):
    """Its host is shown, its path may be a secret: with the notification, and with the job before it has ended too."""
    response = request_job(receiver.url("/hook?token=secret"))
    job = job_of(response)
    call_command("notifications", "jobs", "show", str(job.id))
    assert "Callback to 127.0.0.1: not sent yet." in capsys.readouterr().out
    run_jobs()
    row = Notification.objects.get(job=job.id)
    for path in (f"notification/{row.id}", f"job/{job.id}"):
        page = admin_client.get(f"/admin/notifications/{path}/change/").content.decode()
        assert "Callback to 127.0.0.1: status 204 after " in page and "secret" not in page
    WebhookAttempt.objects.update(status=None, error="Timeout")
    call_command("notifications", "explain", str(row.id))
    shown = capsys.readouterr().out
    assert "Callback to 127.0.0.1: no answer (Timeout)." in shown and "secret" not in shown
    Job.objects.filter(task_path=call.module_path).update(state="queued", attempt=0)
    WebhookAttempt.objects.all().delete()
    assert texts(row) == ["Callback to 127.0.0.1: not sent yet."]
    Job.objects.filter(task_path=call.module_path).update(attempt=1)
    assert texts(row) == ["Callback to 127.0.0.1: will be sent again, as attempt 2 of 9."]


class TestReplays:
    KEY = {"Idempotency-Key": "8e03978e"}

    def test_first_one_stays(self, origins, receiver, request_job):
        """Another URL in the repeated request is not confirmed, and not called."""
        first = request_job(receiver.url("/first"), **self.KEY)
        again = request_job(receiver.url("/second"), **self.KEY)
        assert again["Idempotency-Replayed"] == "true" and HEADER not in again
        assert request_job(receiver.url("/first"), **self.KEY)[HEADER] == receiver.url("/first")
        assert request_job(**self.KEY).status_code == 202
        assert JobCallback.objects.get().job == job_of(first).id
        receiver.answers = [204]
        run_jobs()
        assert [request.path for request in receiver.requests] == ["/first"]

    def test_job_with_a_key_of_its_own(self, origins, receiver, request_job):
        """A request that finds the active job of another one adds its URL, if that has none; not to one that ended."""
        using = {"key": "export-7"}
        request_job(using=using)
        assert request_job(receiver.url("/hook"), using=using)[HEADER]
        assert HEADER not in request_job(receiver.url("/other"), using=using)
        run_jobs()
        assert len(receiver.requests) == 1
        JobCallback.objects.all().delete()
        assert HEADER not in request_job(receiver.url("/hook"), using=using)
        assert not JobCallback.objects.exists()

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer.")
    def test_end_waits_for_the_url(self, origins, receiver, request_job):
        """Of a job that ends while a request adds its URL: its end finds the URL."""
        job = job_of(request_job())
        stored, may_commit = threading.Event(), threading.Event()

        def add():
            with transaction.atomic():
                store_url(receiver.url("/hook"), job)
                stored.set()
                may_commit.wait(20)
            connection.close()

        with ThreadPoolExecutor(2) as threads:
            adding = threads.submit(add)
            stored.wait(20)

            def cancel_job():
                cancel([job.id])
                connection.close()

            ending = threads.submit(cancel_job)
            may_commit.set()
            adding.result()
            ending.result()
        run_jobs()
        assert len(receiver.requests) == 1


class TestRefused:
    @pytest.mark.parametrize(
        ("url", "status", "reason"),
        [
            ("", 400, "must be one URL"),
            ("https://a.example/,https://b.example/", 400, "must be one URL"),
            ("https://crm.example/a b", 400, "must be one URL"),
            ("https://crm.example/\x07", 400, "must be one URL"),
            ("https://crm.example/" + "a" * 981, 400, "at most 1000"),
            ("ftp://crm.example/", 422, "does not begin with http:// or https://"),
            ("//crm.example/", 422, "does not begin with http:// or https://"),
            ("javascript:alert(1)", 422, "does not begin with http:// or https://"),
            ("https://ada:secret@crm.example/", 422, "refused"),
            ("https://crm.example@evil.example/", 422, "refused"),
            ("http://crm.example/", 422, "not among those"),
            ("https://crm.example:444/", 422, "not among those"),
            ("https://evil.example/", 422, "not among those"),
            ("https://crm.example.evil.example/", 422, "not among those"),
            ("https://evil.example/?https://crm.example/", 422, "not among those"),
            ("https://10.0.0.1/", 422, "not on the public internet"),
        ],
    )
    def test_bad_urls(self, settings, request_job, url, status, reason):
        settings.NOTIFICATIONS = {
            **settings.NOTIFICATIONS,
            "CALLBACK_ORIGINS": ["https://crm.example", "https://10.0.0.1"],
        }
        response = request_job(url)
        document = json.loads(response.content)
        assert response.status_code == status and response["Content-Type"] == "application/problem+json"
        assert reason in document["detail"] and document["errors"][0]["field"] == HEADER
        assert "secret" not in document["detail"]
        assert not Job.objects.exists()

    def test_good_urls(self, settings, request_job):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CALLBACK_ORIGINS": ["https://crm.example"]}
        for url in (
            "https://crm.example",
            "https://CRM.example:443/a?b=%2C#c",
            "https://crm.example/" + "a" * 980,
        ):
            assert request_job(url)[HEADER] == url

    def test_off_by_default(self, request_job):
        response = request_job("https://crm.example/")
        assert response.status_code == 422 and not Job.objects.exists()
        assert "this site calls no URLs" in json.loads(response.content)["detail"]

    def test_not_allowed_any_more(self, settings, origins, receiver, request_job, caplog):
        """It is not called, and not tried again."""
        request_job(receiver.url("/hook"))
        run_jobs_of_the_request()
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CALLBACK_ORIGINS": ["https://crm.example"]}
        with caplog.at_level(logging.CRITICAL):
            run_until_idle()
        calling = Job.objects.get(task_path=call.module_path)
        assert (calling.state, calling.attempt, receiver.requests) == ("failed", 1, [])

    def test_inside_the_network(self, settings, request_job, receiver, resolve_names):  # noqa: F811
        """An origin that is allowed is called through the guard of all outbound calls."""
        resolve_names({"inside.test": ["127.0.0.1"]})
        settings.NOTIFICATIONS = {
            **settings.NOTIFICATIONS,
            "OUTBOUND_ALLOW": [],
            "OUTBOUND_PORTS": [80, 443, int(receiver.address.partition(":")[2])],
            "CALLBACK_ORIGINS": [f"http://inside.test:{receiver.address.partition(':')[2]}"],
        }
        assert request_job(settings.NOTIFICATIONS["CALLBACK_ORIGINS"][0] + "/hook").status_code == 202
        run_jobs()
        assert receiver.requests == []
        assert WebhookAttempt.objects.get().error == "Refused"


def run_jobs_of_the_request():
    """Run the job of the request, and leave the one that calls its URL for later."""
    with suppress(RuntimeError):  # which says that there are more
        run_jobs(limit=1)
    assert list(Job.objects.order_by("id").values_list("state", flat=True)) == ["succeeded", "queued"]


def test_deleted_with_its_job(origins, receiver, request_job):
    request_job(receiver.url("/hook"))
    run_jobs()
    call_command("notifications", "prune", days=0)
    assert not JobCallback.objects.exists() and not WebhookAttempt.objects.exists()


def test_deleted_with_its_user(origins, receiver, request_job, user):
    request_job(receiver.url("/hook"))
    user.delete()
    assert not JobCallback.objects.exists()

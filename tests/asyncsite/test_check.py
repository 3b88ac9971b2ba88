"""One URL that is called within the request. A call that takes too long becomes a job."""

import json
import time
from functools import partial

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from asyncsite import check
from asyncsite.calls import CallResult
from asyncsite.models import Report
from notifications import outbound
from notifications.models import Job, Notification
from notifications.testing import run_jobs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


def test_the_page_shows_the_result(person, upstream):
    """It keeps the URL in the form. Nothing is stored."""
    html = person.post("/check/", {"url": upstream.url("/status/404")}).content.decode()
    assert f'value="{upstream.url("/status/404")}"' in html
    assert f"{upstream.address} answered with status 404 (Not Found)." in html
    assert "<dt>Status</dt><dd>404</dd>" in html
    assert not Report.objects.exists() and not Job.objects.exists()


def test_a_program_gets_the_result_as_json(program, upstream, monkeypatch):
    monkeypatch.setattr(check, "MAX_WAIT_SECONDS", 60.0)
    body = json.dumps({"url": upstream.url("/ok")})
    response = program.post("/check/", body, content_type="application/json")
    result = response.json()
    assert response.status_code == 200
    assert 0 <= result.pop("elapsed_ms") < 60_000
    assert result == {
        "url": upstream.url("/ok"),
        "outcome": "ok",
        "status": 200,
        "bytes": 2,
        "content_type": "text/plain; charset=utf-8",
        "error": "",
    }


def test_a_refused_call_is_explained(person):
    html = person.post("/check/", {"url": "http://169.254.169.254/"}).content.decode()
    assert '<span class="outcome refused">refused</span>' in html
    assert "169.254.169.254 was not called" in html


def test_a_call_longer_than_two_seconds_becomes_a_job(person, user, upstream):
    """The browser is redirected to the report, and its owner is notified."""
    started = time.monotonic()
    response = person.post("/check/", {"url": upstream.url("/slow/2.5")})
    assert time.monotonic() - started >= 2
    report = Report.objects.get()
    assert (response.status_code, response.headers["location"]) == (303, report.get_absolute_url())
    assert not Notification.objects.exists()
    run_jobs()
    assert report.calls.get().outcome == "ok"
    notification = Notification.objects.get()
    assert (notification.user_id, notification.url) == (user.pk, report.get_absolute_url())
    assert notification.title == f"Check {upstream.url('/slow/2.5')} finished"


def test_a_program_gets_202_for_a_slow_call(program, upstream):
    body = json.dumps({"url": upstream.url("/slow/2.5")})
    response = program.post("/check/", body, content_type="application/json")
    assert response.status_code == 202
    assert response.json()["id"] == str(Report.objects.get().job_id)


def test_the_title_of_a_long_url_is_truncated(person, upstream):
    person.post("/check/", {"url": upstream.url("/slow/2.5?" + "x" * 1900)})
    assert len(Report.objects.get().title) == 200


def test_too_many_active_jobs_keep_the_form(person, upstream, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    assert person.post("/reports/", {"urls": upstream.url("/ok")}).status_code == 303
    response = person.post("/check/", {"url": upstream.url("/slow/2.5")})
    assert response.status_code == 429
    assert f'value="{upstream.url("/slow/2.5")}"' in response.content.decode()
    assert Report.objects.count() == 1


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "Enter the URL to call."),
        ("example.com", "The URL does not begin with http:// or https://: example.com"),
    ],
)
def test_an_invalid_url_is_422_with_the_form(person, url, text):
    response = person.post("/check/", {"url": url})
    html = response.content.decode()
    assert response.status_code == 422
    assert html.count(text) == 2 and 'tabindex="-1" data-focus' in html


@pytest.mark.parametrize(
    ("body", "status"),
    [("{", 400), ("[]", 422), ("{}", 422), ('{"url": 7}', 422), ('{"url": "example.com"}', 422)],
)
def test_invalid_json_is_a_problem(program, body, status):
    response = program.post("/check/", body, content_type="application/json")
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert status == 400 or response.json()["errors"][0]["detail"]


def test_failing_urls_of_one_user_open_no_circuit_for_others(
    program, other_user, client, upstream, monkeypatch
):
    """A host that has failed too often for one user is still called for others."""
    monkeypatch.setattr("asyncsite.calls.outbound.stream", partial(outbound.stream, retries=0))
    check_url(program, upstream.url("/status/503"), times=20)
    assert "has failed too often" in check_url(program, upstream.url("/ok")).json()["error"]
    client.force_login(other_user)
    assert check_url(client, upstream.url("/ok")).json()["outcome"] == "ok"


def check_url(client, url, times=1):
    for _ in range(times):
        response = client.post("/check/", json.dumps({"url": url}), content_type="application/json")
    return response


async def test_it_works_on_an_event_loop(event_loop_database, user, async_client, upstream):
    """As under ASGI, where a query outside a thread is an error."""
    await async_client.aforce_login(user)
    page = await async_client.get("/check/", headers={"accept": "text/html"})
    assert page.status_code == 200
    page = await async_client.post("/check/", {"url": upstream.url("/ok")}, headers={"accept": "text/html"})
    assert '<span class="outcome ok">passed</span>' in page.content.decode()
    page = await async_client.post("/check/", {"url": "x"}, headers={"accept": "text/html"})
    assert page.status_code == 422


async def test_no_connection_is_held_during_the_call(event_loop_database, user, async_client, monkeypatch):
    """Loading the user has opened one in a thread."""
    await async_client.aforce_login(user)
    connections = []

    async def call(url):
        connections.append(await sync_to_async(lambda: connection.connection)())
        return CallResult(outcome="ok", status=200)

    monkeypatch.setattr("asyncsite.check.call_url", call)
    response = await async_client.post("/check/", {"url": "https://api.example.com/"})
    assert response.status_code == 200
    assert connections == [None]


def test_the_csrf_failure_of_an_async_view_is_a_page(user, client_of):
    client = client_of(user, enforce_csrf_checks=True)
    response = client.post("/check/", {"url": "x"}, headers={"accept": "text/html"})
    assert response.status_code == 403 and "This form is out of date" in response.content.decode()

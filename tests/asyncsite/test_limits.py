"""Limits for one user: requests per minute and stored reports."""

import json
from datetime import timedelta

import pytest
from django.db.models import F

from asyncsite import check, limits
from asyncsite.models import RateLimitEntry, Report
from notifications.models import Job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]

JSON = "application/json"


@pytest.fixture
def three_per_minute(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "JOBS_PER_MINUTE": 3}


def check_url(client, url):
    return client.post("/check/", json.dumps({"url": url}), content_type=JSON)


def send_report(client, url, **headers):
    return client.post("/reports/", json.dumps({"urls": [url]}), content_type=JSON, headers=headers)


def test_a_check_counts_as_a_request_without_a_job(program, other_user, client, upstream, three_per_minute):
    """It counts towards checks and reports. Each user has a separate count."""
    url = upstream.url("/ok")
    assert [check_url(program, url).status_code for _ in range(3)] == [200] * 3
    response = check_url(program, url)
    assert (response.status_code, response.headers["content-type"]) == (429, "application/problem+json")
    seconds = int(response.headers["Retry-After"])
    assert 1 <= seconds <= 60
    assert response.json()["detail"] == (
        f"You have sent 3 URLs and reports within a minute. Try again in {seconds} s."
    )
    assert send_report(program, url).status_code == 429
    assert len(upstream.requests) == 3 and not Job.objects.exists() and not Report.objects.exists()
    client.force_login(other_user)
    assert check_url(client, url).status_code == 200


def test_requests_older_than_a_minute_do_not_count(program, user, upstream, three_per_minute):
    """The next request deletes them."""
    url = upstream.url("/ok")
    assert [check_url(program, url).status_code for _ in range(4)] == [200] * 3 + [429]
    RateLimitEntry.objects.update(created_at=F("created_at") - timedelta(seconds=61))
    assert check_url(program, url).status_code == 200
    assert RateLimitEntry.objects.filter(owner=user).count() == 1


def test_replays_of_a_report_do_not_count(program, upstream, three_per_minute):
    for _ in range(5):
        assert send_report(program, upstream.url("/ok"), idempotency_key="one").status_code == 202
    assert RateLimitEntry.objects.count() == 1
    assert check_url(program, upstream.url("/ok")).status_code == 200


def test_a_check_that_becomes_a_report_counts_once(program, upstream, three_per_minute, monkeypatch):
    monkeypatch.setattr(check, "MAX_WAIT_SECONDS", 0.05)
    assert check_url(program, upstream.url("/slow/1")).status_code == 202
    assert RateLimitEntry.objects.count() == 1


def test_a_browser_gets_the_form_with_the_error(person, upstream, three_per_minute):
    """Both pages keep the values of the form and send Retry-After."""
    url = upstream.url("/ok")
    for _ in range(3):
        person.post("/check/", {"url": url})
    for response in (person.post("/check/", {"url": url}), person.post("/reports/", {"urls": url})):
        html = response.content.decode()
        assert response.status_code == 429 and "Retry-After" in response.headers
        assert "You have sent 3 URLs and reports within a minute." in html
        assert f'value="{url}"' in html or f"{url}</textarea>" in html


def test_the_number_of_reports_is_limited(program, person, make_report, other_user, upstream, monkeypatch):
    """Another report is 409, and so is a check that takes too long. A fast check is allowed."""
    monkeypatch.setattr(limits, "MAX_REPORTS_PER_USER", 2)
    make_report(owner=other_user), make_report(), make_report()
    detail = (
        "You have 2 reports, which is the limit. Open one that you no longer need, delete it, and try again."
    )
    response = send_report(program, upstream.url("/ok"))
    assert (response.status_code, response.json()["detail"]) == (409, detail)
    response = person.post("/reports/", {"urls": upstream.url("/ok")})
    assert response.status_code == 409 and detail in response.content.decode()
    assert upstream.url("/ok") in response.content.decode()
    monkeypatch.setattr(check, "MAX_WAIT_SECONDS", 0.05)
    response = person.post("/check/", {"url": upstream.url("/slow/1")})
    assert response.status_code == 409 and detail in response.content.decode()
    monkeypatch.setattr(check, "MAX_WAIT_SECONDS", 60)
    assert person.post("/check/", {"url": upstream.url("/ok")}).status_code == 200
    assert Report.objects.count() == 3 and not Job.objects.exists()

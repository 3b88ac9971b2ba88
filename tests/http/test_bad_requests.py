"""Every bad request gets a problem document with a remedy, and no row changes."""

import re

import pytest
from django.db import connection
from django.test import Client

from asyncsite.models import Report
from notifications.api import notify
from notifications.models import Job, Notification, Stream
from notifications.streams import positions
from tests.data.rows import job
from tests.http.bad_requests import API, BAD_REQUESTS, JSON, READ, BadRequest
from tests.http.conftest import assert_problem
from tests.support.offenders import collect_offenders

TOKEN = "a" * 32

#: Optional headers with invalid values: the response is that of a request without them.
IGNORED_HEADERS = (
    [
        {"If-None-Match": value}
        for value in (
            "",
            "x",
            '"',
            "W/",
            '"a',
            ",,,",
            'W/W/"x"',
            "*x",
            "\x00",
            '"ä"',
            '"x"' * 5000,
            "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"),
        )
    ]
    + [
        {"Prefer": value}
        for value in (
            "",
            "wait",
            "wait=",
            "wait=x",
            "wait=-1",
            "wait=1.5",
            "wait=" + "9" * 5000,
            'wait="',
            ";",
            "=",
            ",,",
            "\x00",
            "ä",
            "x=" + '"\\' * 5000,
        )
    ]
    + [
        {"Accept": value}
        for value in (
            "",
            "*/*",
            "application/*",
            "application/json;q=0.001",
            "text/html, */*;q=0.1",
            "application/json;q=x",
            "application/json; charset=utf-8",
            "text/html;level=1;q=0.9, application/json;version=2;q=0.5",
        )
    ]
    + [
        {"Accept-Language": "\x00"},
        {"Accept-Encoding": "x" * 5000},
        {"Last-Event-ID": "x"},
        {"X-HTTP-Method-Override": "DELETE"},
    ]
)


@pytest.fixture
def scenario(user, other_user, client_of):
    """Return a user with two notifications and a job, and a job of another user."""
    notify(user, "first")
    notify(user, "second")
    client = client_of(user, enforce_csrf_checks=True)
    return Scenario(user, client, own_job=job(user), foreign_job=job(other_user))


class Scenario:
    def __init__(self, user, client, *, own_job, foreign_job):
        self.user, self.client, self.own_job, self.foreign_job = user, client, own_job, foreign_job

    def read_rows(self):
        """Return all rows that a request could change."""
        return [list(model.objects.order_by("pk").values()) for model in (Job, Notification, Stream, Report)]

    def send(self, bad):
        path = (
            bad.path.replace("{mine}", str(self.own_job.pk))
            .replace("{MINE}", str(self.own_job.pk).upper())
            .replace("{theirs}", str(self.foreign_job.pk))
        )
        body = bad.body.replace(b"{head}", b"%d" % positions.position(self.user.pk).head)
        headers = dict(bad.headers)
        self.client.cookies.pop("csrftoken", None)
        if bad.token:
            self.client.cookies["csrftoken"] = headers["X-CSRFToken"] = TOKEN
        return self.client.generic(bad.method, path, body, content_type=bad.type, headers=headers)


def test_bad_requests(scenario):
    with collect_offenders() as offenders:
        for bad in BAD_REQUESTS:
            with offenders.row(bad.name):
                check_bad_request(bad, scenario)


def check_bad_request(bad, scenario):
    rows_before = scenario.read_rows()
    response = scenario.send(bad)
    if bad.method == "HEAD":
        assert response.status_code == bad.status
    else:
        data = assert_problem(response, bad.status)
        assert bad.says in data["detail"], data["detail"]
        words = [data["detail"], *(error["detail"] for error in data.get("errors", ()))]
        assert data["detail"].endswith(".") and all(0 < len(text) < 500 for text in words), words
        assert not re.search(r"Traceback|File \"|/site-packages/|0x[0-9a-f]{6}", response.content.decode())
    if bad.status == 405:
        assert response["Allow"]
    assert scenario.read_rows() == rows_before


def test_number_of_bad_requests():
    assert len({(bad.status, bad.says, bad.method) for bad in BAD_REQUESTS}) >= 50
    assert len({bad.name for bad in BAD_REQUESTS}) == len(BAD_REQUESTS) > 200


def test_invalid_optional_headers_are_ignored(scenario):
    """The response is complete."""
    with collect_offenders() as offenders:
        for headers in IGNORED_HEADERS:
            with offenders.row(ascii(headers)[:100]):
                for path in (f"{API}jobs/{scenario.own_job.pk}/", f"{API}notifications/", f"{API}sync/"):
                    response = scenario.client.get(path, headers=headers)
                    found = (response.status_code, response["Content-Type"])
                    assert found == (200, JSON), (path, response.content)


def test_unknown_keys_of_a_body_are_ignored(scenario):
    unknown = BadRequest(path=READ, status=200, says="", body=b'{"up_to": {head}, "more": [1], "": null}')
    assert scenario.send(unknown).json()["unread"] == 0


def test_session_key_with_nul(db):
    """Cookies can contain a NUL in octal. PostgreSQL refuses it: 401."""
    client = Client()
    client.cookies.load('sessionid="\\000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"')
    assert_problem(client.get(f"{API}jobs/"), 401)


def test_invalid_key_causes_no_write(scenario):
    scenario.client.cookies["csrftoken"] = TOKEN
    headers = {"Idempotency-Key": "two words", "X-CSRFToken": TOKEN}
    with connection.execute_wrapper(refuse_writes):
        response = scenario.client.post(
            "/reports/", {"urls": ["https://example.org/"]}, content_type=JSON, headers=headers
        )
    assert_problem(response, 400)


def refuse_writes(execute, sql, params, many, context):
    assert sql.lstrip().upper().startswith("SELECT"), sql
    return execute(sql, params, many, context)

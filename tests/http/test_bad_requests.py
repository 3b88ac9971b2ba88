"""Whatever is wrong with a request: a problem that says what and how to mend it, nothing stored and nothing lost."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client

from asyncsite.models import Report
from notifications.api import notify
from notifications.models import Job, Notification, Stream
from notifications.streams import changes
from tests.data.rows import job
from tests.http.bad_requests import API, BAD, IGNORED, JSON, READ, Bad
from tests.http.conftest import assert_problem

TOKEN = "a" * 32


@pytest.fixture
def there(db):
    """Ada with two notifications and a job, Bob with a job."""
    ada, bob = (get_user_model().objects.create_user(name) for name in ("ada", "bob"))
    notify(ada, "first")
    notify(ada, "second")
    return There(ada, job(ada), job(bob))


class There:
    def __init__(self, user, mine, theirs):
        self.user, self.mine, self.theirs = user, mine, theirs
        self.client = Client(enforce_csrf_checks=True)
        self.client.force_login(user)
        self.before = self.rows()

    def rows(self):
        """All that a request could change."""
        return [list(model.objects.order_by("pk").values()) for model in (Job, Notification, Stream, Report)]

    def send(self, bad):
        path = (
            bad.path.replace("{mine}", str(self.mine.pk))
            .replace("{MINE}", str(self.mine.pk).upper())
            .replace("{theirs}", str(self.theirs.pk))
        )
        body = bad.body.replace(b"{head}", b"%d" % changes.position(self.user.pk).head)
        headers = dict(bad.headers)
        if bad.token:
            self.client.cookies["csrftoken"] = headers["X-CSRFToken"] = TOKEN
        return self.client.generic(bad.method, path, body, content_type=bad.type, headers=headers)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_what_is_wrong_is_a_problem(bad, there):
    """With a fact and a remedy in words, and every row as it was."""
    response = there.send(bad)
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
    assert there.rows() == there.before


def test_there_are_many_kinds():
    assert len({(bad.status, bad.says, bad.name.partition(":")[0]) for bad in BAD}) >= 60
    assert len({bad.name for bad in BAD}) == len(BAD) > 200


@pytest.mark.parametrize("headers", IGNORED, ids=lambda headers: next(iter(headers)))
def test_what_is_broken_and_optional_is_ignored(headers, there):
    """The answer is whole; a body with keys that nobody knows is read as one without them."""
    for path in (f"{API}jobs/{there.mine.pk}/", f"{API}notifications/", f"{API}sync/"):
        response = there.client.get(path, headers=headers)
        assert (response.status_code, response["Content-Type"]) == (200, JSON), (path, response.content)
    unknown = Bad(name="", path=READ, status=200, says="", body=b'{"up_to": {head}, "more": [1], "": null}')
    assert there.send(unknown).json()["unread"] == 0


def test_a_session_key_that_no_database_takes(db):
    """Cookies can hold a NUL, in octal: nobody is signed in then."""
    client = Client()
    client.cookies.load('sessionid="\\000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"')
    assert_problem(client.get(f"{API}jobs/"), 401)


def test_nothing_is_asked_of_the_database_for_a_bad_key(there):
    """It is refused before the transaction begins."""
    there.client.cookies["csrftoken"] = TOKEN
    headers = {"Idempotency-Key": "two words", "X-CSRFToken": TOKEN}
    with connection.execute_wrapper(refuse_writes):
        response = there.client.post(
            "/reports/", {"urls": ["https://example.org/"]}, content_type=JSON, headers=headers
        )
    assert_problem(response, 400)


def refuse_writes(execute, sql, params, many, context):
    assert sql.lstrip().upper().startswith("SELECT"), sql
    return execute(sql, params, many, context)

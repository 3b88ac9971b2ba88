"""Every bad request gets a problem document with a remedy, and no row changes.

In a path, ``{mine}`` is the id of a job of the user and ``{theirs}`` of another user's. In a body, ``{head}`` is the
position of the stream.
"""

import re
from dataclasses import dataclass, field

import pytest
from django.db import connection
from django.test import Client

from asyncsite.models import Report
from notifications.api import notify
from notifications.models import Job, Notification, Stream
from tests.data.rows import job
from tests.data.shapes import position
from tests.http.conftest import assert_problem
from tests.support.offenders import collect_offenders

API = "/notifications/api/"
READ = API + "notifications/read/"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
NIL = "00000000-0000-0000-0000-000000000000"
DEEP = b"[" * 100_000
MB = 1024 * 1024
URLS = b'{"urls": ["https://example.org/"]'


@dataclass(frozen=True, kw_only=True)
class BadRequest:
    """A request and its expected response. Without ``token`` it has no CSRF token."""

    path: str
    status: int
    says: str
    method: str = "POST"
    body: bytes = b""
    type: str = JSON
    headers: dict = field(default_factory=dict)
    token: bool = True

    @property
    def name(self):
        parts = (self.method, self.path, self.body, self.type, self.headers, self.token)
        return " ".join(shorten(str(part)) for part in parts)


def shorten(text):
    return text if len(text) < 80 else f"{text[:60]}… ({len(text)} characters)"


def post(path, says, status, body=b"", **fields):
    return BadRequest(path=path, says=says, status=status, body=body, **fields)


def post_read(body, says, status=400, **fields):
    return post(READ, says, status, body, **fields)


def post_report(body, says, status=400, **fields):
    return post("/reports/", says, status, body, **fields)


def get(path, says, status=422, **fields):
    return BadRequest(path=API + path, status=status, says=says, method="GET", **fields)


#: Bodies that are not JSON, or that are ambiguous, by what is said of them.
INVALID_JSON = {
    "Send one": (
        b" \n",
        *(b'{"up_to": %s}' % value for value in b"1, 0x10 07 +7".split()),
        b'{"up_to": 1',
        b"{'up_to': 1}",
        b'{"x": "\\x41"}',
        '{"up_to": 1}'.encode("utf-32-le"),
        b"<up_to>1</up_to>",
        b"up_to=1",
    ),
    "Extra data": (b"{}{}", b'{"up_to": 1} // all'),
    **{f"{name} is no": [b'{"up_to": %s}' % name.encode()] for name in ("NaN", "Infinity", "-Infinity")},
    "an object has a": (b'{"up_to": 1, "up_to": 2}', b'{"x": [{"a": 1, "a": 2}]}'),
    "nested too deeply": (DEEP, b'{"a":' * 100_000),
    "400 digits": (b'{"up_to": ' + b"9" * 5000 + b"}",),
    "Invalid control character": (b'{"x": "a\nb"}', b'{"x": "\x00"}'),
    # Other encodings, half a character, and a surrogate in UTF-8.
    "can't decode": (
        '{"x": "ä"}'.encode("latin-1"),
        '{"up_to": 1}'.encode("utf-16"),
        b'{"x": "\xf0\x9f"}',
        b'{"x": "\xed\xa0\x80"}',
    ),
    "BOM": (b"\xef\xbb\xbf{}",),
}
BAD_REQUESTS = [
    *(
        post_(body, says)
        for post_ in (post_read, post_report)
        for says in INVALID_JSON
        for body in INVALID_JSON[says]
    ),
    # Values that are JSON but invalid.
    *(post_read(body, "The body must be a JSON object", 422) for body in b'[] null 1 "up_to" true'.split()),
    *(
        post_read(b'{"up_to": %s}' % value, "up_to must be an integer from 0 to", 422)
        for value in [*b'null "1" true [1] {} 1.5 1.0 1e2 1e999 -1 1000 9007199254740993'.split(), b"9" * 300]
    ),
    post_read(b"", "Send application/json", 415),
    post_report(b"", "Send one of", 415),
    post_read(b"{}", "up_to must be an integer", 422),
    post_read(b'{"UP_TO": 1}', "up_to must be an integer", 422),
    *(
        post_read(b'{"up_to": {head}, "ids": %s}' % value, "ids ", 422)
        for value in (
            *b'"all" {} 1 [1] [null] [[]] ["1"] ["\\u0000"] ["\\ud800"]'.split(),
            b"[" + b",".join([b'"' + NIL.encode() + b'"'] * 201) + b"]",
        )
    ),
    *(post_report(body, "Some values are not valid", 422) for body in (b"[]", b"null", b"{}")),
    *(
        post_report(b'{"urls": %s}' % value, "Some values are not valid", 422)
        for value in (
            *b'null "https://example.org/" [] [1] [null] [["https://example.org/"]] ["x"]'.split(),
            *b'["ftp://example.org/"] ["https://example.org/\\u0000"] ["https://example.org/\\ud800"]'.split(),
            b"[" + b",".join([b'"https://example.org/"'] * 1001) + b"]",
        )
    ),
    *(
        post_report(URLS + b', "title": %s}' % title, "Some values", 422)
        for title in [*b'1 [] 1e999 "a\\u0000" "\\udc00"'.split(), b'"%s"' % (b"x" * 300)]
    ),
    # Content types and sizes.
    *(
        post_read(b'{"up_to": 1}', "Send application/json", 415, type=type)
        for type in [
            "",
            "x/y; charset=utf-8",
            *f"text/plain {FORM} application/vnd.api+json text/json json".split(),
        ]
    ),
    *(
        post_report(URLS + b"}", "Send one of", 415, type=type)
        for type in ("text/plain", "", "application/xml")
    ),
    *(
        post(f"{API}jobs/{{mine}}/{verb}/", "Send at most 1048576 bytes", 413, b" " * (MB + 1), type=type)
        for verb, type in (("cancel", JSON), ("retry", "text/plain"))
    ),
    post_read(b" " * (MB + 1), "Send at most 1048576 bytes", 413),
    post_report(b'{"urls": [' + b" " * (4 * MB) + b"]}", "Send fewer URLs", 413),
    post_report(b"x", "not a valid form", type="multipart/form-data"),  # without its boundary
    post_report(b"--b\r\nbroken", "Some values", 422, type=MULTIPART),
    # Queries.
    *(
        get(f"{list_name}/?limit={limit}", "limit")
        for list_name in ("jobs", "notifications")
        for limit in ("0", "-1", "x", "", "1.5", "1e2", "%00", "%D9%A3")
    ),
    *(
        get(f"jobs/?after={after}", "after must contain ids only")
        for after in ("", "1", "x", "%00", "%ff", NIL[:-1], NIL + "0", "%ED%A0%80")
    ),
    *(
        get(f"notifications/?after={after}", "after must be an integer")
        for after in ("", "-1", "x", NIL, "1.0", "9007199254740992", "9" * 400, "%00", "%ff")
    ),
    *(
        get(f"jobs/?state={state}", "state must be one of queued")
        for state in ("", "done", "QUEUED", "queued%00", "%ff")
    ),
    *(
        get(f"notifications/?{query}", query.partition("=")[0])
        for query in ("unread=2", "unread=true", "unread=", "archived=-1", "archived=yes", "category=x%00")
    ),
    *(
        get(f"sync/?{query}", "seq must be an integer")
        for query in (
            "epoch=e&seq=x",
            "epoch=e&seq=-1",
            "seq=%00",
            "seq=9007199254740992",
            "seq=" + "9" * 500,
        )
    ),
    get("jobs/?" + "&".join(f"p{n}" for n in range(1001)), "fewer", 400),
    # Ids in paths.
    get("jobs/{theirs}/", "The job does not exist", 404),
    get("jobs/{theirs}/result/", "The job does not exist", 404),
    get(f"jobs/{NIL}/", "The job does not exist", 404),
    *(
        get(f"jobs/{id}/", "no such path", 404)
        for id in (
            *["1", "x", "%00", "%ff", "..", "%2e%2e", "{MINE}"],
            NIL[:-1],
            NIL + "0",
            NIL.replace("0", "G"),
            NIL.replace("-", ""),
        )
    ),
    post(API + "jobs/{theirs}/cancel/", "The job does not exist", 404),
    post(API + "jobs/{theirs}/retry/", "The job does not exist", 404),
    post(API + "jobs/{mine}/retry/", "Only a failed or cancelled job", 409),
    get("jobs/{mine}/result/", "not done", 409),
    # Paths and methods.
    get("job/", "no such path", 404),
    get("", "no such path", 404),
    get("jobs", "end with a slash", 404),
    post(API + "notifications/read", "end with a slash", 404),
    post(API + "notifications/destroy/", "no such path", 404),
    *(
        post(API + path, f"Use {use}", 405, method=method)
        for method, path, use in (
            ("POST", "jobs/", "GET"),
            ("DELETE", "jobs/{mine}/", "GET"),
            ("PUT", "jobs/{mine}/", "GET"),
            ("PATCH", "notifications/", "GET"),
            ("OPTIONS", "sync/", "GET"),
            ("TRACE", "events/", "GET"),
            ("GET", "notifications/read/", "POST"),
            ("GET", "notifications/seen/", "POST"),
            ("HEAD", "jobs/{mine}/cancel/", "POST"),
            ("BREW", "jobs/", "GET"),
        )
    ),
    post_report(b"", "Use GET or", 405, method="DELETE"),
    # Accept.
    *(
        get(path, "available as application/json only", 406, headers={"Accept": accept})
        for path, accept in (
            ("jobs/", "text/html"),
            ("jobs/{mine}/", "image/*"),
            ("notifications/", "application/problem+json"),
            ("sync/", "text/event-stream"),
            ("jobs/", "application/json;q=0"),
            ("jobs/", "application/json; q=0"),
            ("jobs/", f"application/json,{' ' * 2100}text/html"),
            ("jobs/", "*/*;q=0"),
            ("jobs/", "application"),
            ("jobs/", ";;;"),
            ("jobs/", "text/html;charset*=x'y'z"),
        )
    ),
    post_read(b'{"up_to": 0}', "available as application/json only", 406, headers={"Accept": "text/html"}),
    get("events/", "available as text/event-stream only", 406, headers={"Accept": JSON}),
    *(
        post_report(URLS + b"}", "1 to 200 visible ASCII characters", headers={"Idempotency-Key": key})
        for key in (
            "",
            " ",
            "a b",
            "a\tb",
            "a\nb",
            "a\0",
            "\x1b[0m",
            "ä",
            "\xd0\xba",
            "x" * 201,
            "x" * 10_000,
        )
    ),
    # CSRF.
    post_read(b'{"up_to": 1}', "X-Csrftoken", 403, token=False),
    post_report(b"{}", "X-CSRFToken", 403, token=False, headers={"Accept": JSON}),
]


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
        body = bad.body.replace(b"{head}", b"%d" % position(self.user.pk)[0])
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

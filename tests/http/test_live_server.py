"""By a real Daphne: what a test client cannot send, and what waiting does to others."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import urllib.parse
from contextlib import nullcontext, suppress

import pytest

from tests.support.site import ROOT
from tests.support.waiting import wait_until

API = "/notifications/api/"
DOCS = ROOT / "docs"


class Person:
    """Somebody with a session, who asks on connections of their own."""

    def __init__(self, site, name="demo"):
        self.port = site.port
        self.cookies = {}
        self.ask("GET", "/accounts/login/")
        form = {"username": name, "password": name, "csrfmiddlewaretoken": self.cookies["csrftoken"]}
        response = self.ask(
            "POST",
            "/accounts/login/",
            urllib.parse.urlencode(form),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert response.status == 302, response.status

    def headers(self):
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookies, "X-CSRFToken": self.cookies.get("csrftoken", "")}

    def ask(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {**self.headers(), **dict(headers)})
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        for name, value in re.findall(r"Set-Cookie: (\w+)=([^;]*)", str(response.headers)):
            self.cookies[name] = value
        return response

    def report(self, urls, **headers):
        body = json.dumps({"urls": urls})
        headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.ask("POST", "/reports/", body, headers)

    def raw(self, head, body=b"", *, whole=True):
        """Send bytes, with the session's cookies, and return the status of the answer; None for none.

        What is not ``whole`` is ended by the client, or the server would wait for more.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            own = "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
            response = b""
            with (
                nullcontext() if whole else suppress(ConnectionError)
            ):  # the server may hang up at any moment
                connection.sendall(head.replace(b"OWN\r\n", own.encode()) + b"\r\n" + body)
                if not whole:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                while b"\r\n" not in response and (some := connection.recv(65536)):
                    response += some
        return int(response.split(b" ", 2)[1]) if response else None


@pytest.fixture
def person(site_server):
    return Person(site_server)


def head(path=b"/notifications/api/jobs/", *lines, method=b"GET", version=b"HTTP/1.1"):
    return b"\r\n".join([b"%s %s %s" % (method, path, version), b"Host: 127.0.0.1", *lines, b"OWN", b""])


#: Name, what is sent, and statuses that may be answered; None: nothing, the connection is closed.
RAW = [
    ("a whole request", head(), {200}),
    ("HTTP/1.0", head(version=b"HTTP/1.0"), {200}),
    ("no Host", b"GET /notifications/api/jobs/ HTTP/1.1\r\nOWN\r\n", {200, 400}),
    ("a foreign Host", b"GET /notifications/api/jobs/ HTTP/1.1\r\nHost: evil.example\r\nOWN\r\n", {400}),
    ("a broken path", head(b"/notifications/api/jobs/%ff/"), {404, 400}),
    ("half an escape", head(b"/notifications/api/jobs/%/"), {404, 400}),
    ("raw bytes in a path", head(b"/notifications/api/jobs/\xff/"), {404, 400}),
    ("a NUL in a path", head(b"/notifications/api/jobs/%00/"), {404, 400}),
    ("dots in a path", head(b"/notifications/api/../api/jobs/"), {404, 200, 400}),
    ("a broken query", head(b"/notifications/api/jobs/?limit=%ff&after=%"), {422}),
    ("raw bytes in a query", head(b"/notifications/api/jobs/?state=\xff"), {422, 400}),
    ("raw bytes in a header", head(b"/notifications/api/jobs/", b"If-None-Match: \xff\xfe"), {200, 400}),
    ("a NUL in a header", head(b"/notifications/api/jobs/", b"Prefer: \x00"), {200, 400, None}),
    ("no name of a header", head(b"/notifications/api/jobs/", b": x"), {200, 400}),
    ("no colon", head(b"/notifications/api/jobs/", b"nonsense"), {400, None}),
    ("a long header", head(b"/notifications/api/jobs/", b"Prefer: " + b"x" * 100_000), {400, 414, None}),
    ("many headers", head(b"/notifications/api/jobs/", *[b"X-N: 1"] * 1000), {400, None}),
    ("no such version", head(version=b"HTTP/9.9"), {200, 400, 505, None}),
    ("a length that is none", head(b"/reports/", b"Content-Length: x", method=b"POST"), {400, None}),
    ("a length below 0", head(b"/reports/", b"Content-Length: -1", method=b"POST"), {400, 415, None}),
    (
        "two lengths",
        head(b"/reports/", b"Content-Length: 1", b"Content-Length: 2", method=b"POST"),
        {400, None},
    ),
    ("a body that ends early", head(b"/reports/", b"Content-Length: 99", method=b"POST"), {400, None}),
    ("broken chunks", head(b"/reports/", b"Transfer-Encoding: chunked", method=b"POST"), {400, None}),
    (
        "two keys",
        head(
            b"/reports/", b"Idempotency-Key: a", b"Idempotency-Key: b c", b"Content-Length: 0", method=b"POST"
        ),
        {400, 415},
    ),
    ("nothing", b"", {400, None}),
    ("noise", bytes(range(256)) * 4, {400, None}),
]


def test_what_no_client_sends(person, site_server):
    """Refused by the server or answered by the app, never with 500; nothing is stored, and the next one is answered."""
    wrong = {}
    for name, sent, statuses in RAW:
        body = b"zz\r\nnonsense" if name == "broken chunks" else b""
        got = person.raw(sent, body, whole=None not in statuses)
        if got not in statuses:
            wrong[name] = got
    assert not wrong
    assert site_server.rows("SELECT count(*) FROM notifications_job") == [(0,)]
    assert person.ask("GET", f"{API}jobs/").status == 200
    assert "Internal Server Error" not in site_server.web.output, site_server.web.output


def test_waiting_and_asking_again(person, site_server):
    """200 when the job is done; the same request again is the same report; others are answered while somebody waits."""
    url = f"{site_server.url}/upstream/ok"
    first = person.report([url], Prefer="wait=20", Idempotency_Key="k")
    job = json.loads(first.body)
    assert (first.status, job["done"], first.headers["Preference-Applied"]) == (200, True, "wait=20"), (
        first.body
    )
    again = person.report([url], Prefer="wait=20", Idempotency_Key="k")
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.headers["Content-Location"] == first.headers["Content-Location"] == job["links"]["self"]
    assert person.report([url, url], Idempotency_Key="k").status == 422
    assert site_server.rows("SELECT count(*) FROM asyncsite_report") == [(1,)]


def test_the_client_of_the_documentation(person, site_server):
    """It asks, waits and returns what the task returned; of a job that failed it raises the error."""
    recipe = re.search(
        r"^## A client$.*?^```python\n(.*?)^```$", (DOCS / "reference/http.md").read_text(), re.M | re.S
    )[1]
    data = {}
    exec(recipe, data)
    with data["requests"].Session() as session:
        session.headers.update(person.headers())
        url = f"{site_server.url}/upstream/ok"
        assert data["run"](session, f"{site_server.url}/reports/", urls=[url]) is not None
        with pytest.raises(data["requests"].HTTPError, match="422"):
            data["run"](session, f"{site_server.url}/reports/", urls=[])
    assert site_server.rows("SELECT count(*) FROM asyncsite_report") == [(1,)]


def test_who_goes_while_a_sync_view_waits(person, site_server):
    """Keeps nobody up: others are answered before the job is done, which goes on."""
    body = json.dumps({"urls": [f"{site_server.url}/upstream/slow?s=20"]}).encode()
    with socket.create_connection(("127.0.0.1", site_server.port), timeout=60) as connection:
        own = "".join(f"{name}: {value}\r\n" for name, value in person.headers().items()).encode()
        connection.sendall(
            b"POST /reports/ HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=20\r\nContent-Type: application/json\r\n"
            + own
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        state = "SELECT state FROM notifications_job"
        wait_until(lambda: site_server.rows(state) == [("running",)], what="the job to run")
    for _ in range(3):
        assert person.ask("GET", f"{API}jobs/").status == 200
    assert site_server.rows(state) == [("running",)]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not there")
def test_the_shell_of_the_documentation(site_server, tmp_path):
    """It signs in and asks, as it stands in the page, but for the address and the seconds."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / "reference/http.md").read_text(), re.M | re.S)
    script = "".join(blocks).replace("http://127.0.0.1:8000", site_server.url).replace("s=5", "s=0.01")
    data = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "HTTP/1.1 200 OK" in data.stdout and "Preference-Applied: wait=2" in data.stdout, data

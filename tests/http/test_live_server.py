"""HTTP by a real Daphne: malformed requests, waiting requests, and the examples of the documentation."""

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


class SessionClient:
    """A signed-in client that opens a connection for each request."""

    def __init__(self, site, name="demo"):
        self.port = site.port
        self.cookies = {}
        self.send("GET", "/accounts/login/")
        form = {"username": name, "password": name, "csrfmiddlewaretoken": self.cookies["csrftoken"]}
        response = self.send(
            "POST",
            "/accounts/login/",
            urllib.parse.urlencode(form),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert response.status == 302, response.status

    def headers(self):
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookies, "X-CSRFToken": self.cookies.get("csrftoken", "")}

    def send(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {**self.headers(), **dict(headers)})
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        for name, value in re.findall(r"Set-Cookie: (\w+)=([^;]*)", str(response.headers)):
            self.cookies[name] = value
        return response

    def post_report(self, urls, **headers):
        body = json.dumps({"urls": urls})
        headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.send("POST", "/reports/", body, headers)

    def send_bytes(self, head, body=b"", *, is_complete=True):
        """Send bytes with the session's cookies. Return the status of the response, None without one.

        The client ends a request that is not complete, because the server would wait for the rest.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            headers_text = "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
            response = b""
            with (
                nullcontext() if is_complete else suppress(ConnectionError)
            ):  # the server may hang up at any moment
                connection.sendall(head.replace(b"OWN\r\n", headers_text.encode()) + b"\r\n" + body)
                if not is_complete:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                while b"\r\n" not in response and (chunk := connection.recv(65536)):
                    response += chunk
        return int(response.split(b" ", 2)[1]) if response else None


@pytest.fixture
def session_client(site_server):
    return SessionClient(site_server)


def head(path=b"/notifications/api/jobs/", *lines, method=b"GET", version=b"HTTP/1.1"):
    return b"\r\n".join([b"%s %s %s" % (method, path, version), b"Host: 127.0.0.1", *lines, b"OWN", b""])


#: Name, head of the request, and the statuses that are allowed. None: the connection is closed without a response.
REQUESTS = [
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


def test_malformed_requests(session_client, site_server):
    """The server or the app refuses them, never with 500. Nothing is stored, and later requests succeed."""
    unexpected = {}
    for name, head_bytes, statuses in REQUESTS:
        body = b"zz\r\nnonsense" if name == "broken chunks" else b""
        status = session_client.send_bytes(head_bytes, body, is_complete=None not in statuses)
        if status not in statuses:
            unexpected[name] = status
    assert not unexpected
    assert site_server.rows("SELECT count(*) FROM notifications_job") == [(0,)]
    assert session_client.send("GET", f"{API}jobs/").status == 200
    assert "Internal Server Error" not in site_server.web.output, site_server.web.output


def test_wait_and_replay(session_client, site_server):
    """200 when the job is done. A repeated request is a replay."""
    url = f"{site_server.url}/upstream/ok"
    first = session_client.post_report([url], Prefer="wait=20", Idempotency_Key="k")
    job = json.loads(first.body)
    assert (first.status, job["done"], first.headers["Preference-Applied"]) == (200, True, "wait=20"), (
        first.body
    )
    again = session_client.post_report([url], Prefer="wait=20", Idempotency_Key="k")
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.headers["Content-Location"] == first.headers["Content-Location"] == job["links"]["self"]
    assert session_client.post_report([url, url], Idempotency_Key="k").status == 422
    assert site_server.rows("SELECT count(*) FROM asyncsite_report") == [(1,)]


@pytest.mark.smoke
def test_documented_client(session_client, site_server):
    """It enqueues, waits and returns the result. For a refused request it raises the error."""
    recipe = re.search(
        r"^## A client$.*?^```python\n(.*?)^```$", (DOCS / "reference/http.md").read_text(), re.M | re.S
    )[1]
    data = {}
    exec(recipe, data)
    with data["requests"].Session() as session:
        session.headers.update(session_client.headers())
        url = f"{site_server.url}/upstream/ok"
        assert data["run"](session, f"{site_server.url}/reports/", urls=[url]) is not None
        with pytest.raises(data["requests"].HTTPError, match="422"):
            data["run"](session, f"{site_server.url}/reports/", urls=[])
    assert site_server.rows("SELECT count(*) FROM asyncsite_report") == [(1,)]


def test_client_disconnects_while_a_sync_view_waits(session_client, site_server):
    """Other requests are answered before the job is done, and the job continues."""
    body = json.dumps({"urls": [f"{site_server.url}/upstream/slow?s=20"]}).encode()
    with socket.create_connection(("127.0.0.1", site_server.port), timeout=60) as connection:
        headers_text = "".join(
            f"{name}: {value}\r\n" for name, value in session_client.headers().items()
        ).encode()
        connection.sendall(
            b"POST /reports/ HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=20\r\nContent-Type: application/json\r\n"
            + headers_text
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        state = "SELECT state FROM notifications_job"
        wait_until(lambda: site_server.rows(state) == [("running",)], what="the job to run")
    for _ in range(3):
        assert session_client.send("GET", f"{API}jobs/").status == 200
    assert site_server.rows(state) == [("running",)]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_documented_shell_commands(site_server, tmp_path):
    """They sign in and enqueue. Only the URL and the seconds are changed."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / "reference/http.md").read_text(), re.M | re.S)
    script = "".join(blocks).replace("http://127.0.0.1:8000", site_server.url).replace("s=5", "s=0.01")
    data = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "HTTP/1.1 200 OK" in data.stdout and "Preference-Applied: wait=2" in data.stdout, data

"""Readers of one output, of several kinds, while the web server and the worker are killed: equal byte for byte."""

import http.client
import json
import re
import subprocess
import threading
import time

import pytest

from tests.support.driver import driver
from tests.support.faults.engine import TIMEOUT_SECONDS, Engine
from tests.support.npm import NODE_MODULES
from tests.support.requirements import find_program, skip_or_fail
from tests.support.site import ROOT, SERVERS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

#: An attempt lasts longer than two restarts of the server on a busy machine.
BLOCKS, BLOCK_CHARS, BLOCK_SECONDS = 150, 3_000, 0.16
CHUNKS = "SELECT text FROM notifications_output_outputchunk ORDER BY start"
#: The widths of the pages that read beside the other clients, by server.
WIDTHS = {"daphne": (1280, 1280, 1280, 380), "uvicorn": ()}


@pytest.fixture
def engine(site):
    engine = Engine(site, "readers")
    yield engine
    engine.close()


class Reader(threading.Thread):
    """Reads the output from its start to its end, and goes on where it was while the server gives no response."""

    def __init__(self, site, path, session):
        super().__init__(daemon=True)
        self.port, self.path, self.cookie = site.port, path, f"sessionid={session}"
        self.connection = None
        self.offset, self.data, self.is_closed, self.requests = "-1", b"", False, 0

    def count(self):
        return len(self.data)

    def run(self):
        while not self.is_closed:
            self.requests += 1
            try:
                self.read()
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                if self.connection:
                    self.connection.close()

    def get(self, query, **headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        self.connection.request("GET", f"{self.path}?{query}", headers={"Cookie": self.cookie, **headers})
        response = self.connection.getresponse()
        if response.status not in (200, 204):
            raise OSError(response.status)
        return response

    def take(self, response, data):
        self.data += data
        self.offset = response.headers["Stream-Next-Offset"]
        self.is_closed = response.headers["Stream-Closed"] == "true"


class Poll(Reader):
    def read(self):
        response = self.get(f"offset={self.offset}&live=long-poll")
        self.take(response, response.read())


class Events(Reader):
    """As an EventSource does: it sends the id of the last event."""

    def read(self):
        headers = {} if self.offset == "-1" else {"Last-Event-ID": self.offset}
        response = self.get("offset=-1&live=sse", **headers)
        buffer = text = b""
        while chunk := response.read1(65536):
            buffer += chunk
            while b"\n\n" in buffer:
                event, _, buffer = buffer.partition(b"\n\n")
                data = b"\n".join(re.findall(rb"^data: ?(.*)$", event, re.M))
                if b"event: data\n" in event:
                    text = data
                elif b"event: control\n" in event:
                    control = json.loads(data)
                    self.data, text, self.offset = self.data + text, b"", control["streamNextOffset"]
                    self.is_closed = control.get("streamClosed", False)


class Curl(Reader):
    """curl, again and again."""

    def read(self):
        url = f"http://127.0.0.1:{self.port}{self.path}?offset={self.offset}"
        command = [find_program("curl", package="curl"), "-sfi", "-H", f"Cookie: {self.cookie}", url]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS)
        if done.returncode:
            raise OSError(done.returncode)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(re.findall(r"^([\w-]+): (.*?)\r?$", head.decode().title(), re.M))
        self.data += body
        self.offset, self.is_closed = headers["Stream-Next-Offset"], "Stream-Closed" in headers
        time.sleep(0.1)


class PageReader:
    """The page of the job in a browser."""

    def __init__(self, page, site, job, session):
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": site.url}])
        page.goto(f"{site.url}/notifications/jobs/{job}/")
        # It would be loaded again at the end of the job, and so have the whole text from one response.
        page.evaluate("document.querySelector('notifications-job').removeAttribute('reload')")
        self.box = page.locator("notifications-output pre")

    def count(self):
        return self.box.evaluate("(box) => box.textContent.length")

    @property
    def data(self):
        return self.box.evaluate("(box) => box.textContent").encode()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.timeout(300)
def test_readers_are_equal(engine, server, tmp_path, request):
    pytest.importorskip(server)
    site = engine.site
    with driver(site) as accounts:
        [user] = accounts.call("create_users", count=1)
    [[name]] = site.rows(f"SELECT username FROM auth_user WHERE id = {user['user']}")
    session = user["sessions"][0]
    site.start_web(server)
    [id] = engine.enqueue("write_blocks", user=name, args=[BLOCKS, BLOCK_CHARS, BLOCK_SECONDS])
    path = f"/notifications/api/jobs/{id}/output/"
    readers = [kind(site, path, session) for kind in (Poll, Poll, Events, Events, Curl)]
    clients = [start_client(site, path, session, live, tmp_path / live) for live in ("sse", "long-poll")]
    pages = []
    for width in WIDTHS[server]:
        # The server is killed, which a page logs.
        page = request.getfixturevalue("new_page")(errors=False, viewport={"width": width, "height": 800})
        pages.append(PageReader(page, site, id, session))
    for reader in readers:
        reader.start()
    worker = engine.start_worker()
    for _ in range(2):
        wait_for_more([*readers, *pages])
        site.web.kill()
        site.start_web(server)
    wait_for_more([*readers, *pages])
    worker.kill()
    engine.start_worker()
    engine.wait_until_all_done([id])
    for reader in readers:
        reader.join(TIMEOUT_SECONDS)
        assert reader.is_closed
    expected = "".join(text for (text,) in site.rows(CHUNKS)).encode()
    assert b"\n\x1eattempt 2\n" in expected
    assert len(expected) > BLOCKS * BLOCK_CHARS
    for reader in readers:
        assert reader.data == expected, type(reader)
    shown = expected.replace(b"\x1eattempt 2", b"Attempt 2")
    shown = shown.replace(b"\x1ecut", b"The rest was not kept: the output is too long.")
    for page in pages:
        wait_until(
            lambda page=page: page.count() >= len(shown.decode()), what="a page to have the whole text"
        )
        assert page.data == shown
    for live, client in clients:
        if client:
            assert client.wait(TIMEOUT_SECONDS) == 0, (tmp_path / f"{live}.log").read_text()
            assert (tmp_path / live).read_bytes() == expected, live
    counts = {type(reader).__name__: reader.requests for reader in readers}
    print(len(expected), "bytes,", counts, f"and {len(pages)} pages")
    if not all(client for _, client in clients):
        skip_or_fail("@durable-streams/client is not installed (npm install).", variable="REQUIRE_NPM")


def start_client(site, path, session, live, file):
    """Start the client of the protocol, if npm has installed it."""
    if not (NODE_MODULES / "@durable-streams/client").is_dir():
        return live, None
    script = ROOT / "tests/support/faults/read_output.js"
    url = f"{site.url}{path}"
    with open(f"{file}.log", "w") as log:
        command = [find_program("node", package="nodejs"), script, url, f"sessionid={session}", live, file]
        return live, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def wait_for_more(readers):
    counts = [reader.count() for reader in readers]
    wait_until(
        lambda: all(reader.count() > count for reader, count in zip(readers, counts, strict=True)),
        timeout=TIMEOUT_SECONDS,
        what="all readers to read more",
    )

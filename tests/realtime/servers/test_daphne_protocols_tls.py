"""Requests to Daphne over TLS, and over HTTP/2, which Daphne supports if ``h2`` is installed."""

import asyncio
import os
import ssl
import sys
from types import SimpleNamespace

import aiohttp
import pytest

from tests.realtime.servers.test_daphne_protocols import MAX_BODY_BYTES, pieces
from tests.support.network import free_port, is_listening
from tests.support.processes import Process

pytest.importorskip("daphne")


@pytest.fixture
def daphne(self_signed_pem, tmp_path):
    port = free_port()
    endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={self_signed_pem}:certKey={self_signed_pem}"
    process = Process(
        [sys.executable, "-m", "daphne", "-e", endpoint, "tests.realtime.bodies:application"],
        log=tmp_path / "server.log",
        env={**os.environ, "MAX_BODY_BYTES": str(MAX_BODY_BYTES)},
    )
    process.wait_until(lambda: is_listening(port), what="the server to listen")
    yield port
    process.stop()
    assert "Traceback" not in process.output, process.output


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_too_large_body_is_refused(daphne, chunked):
    """A body above the limit gets 413, which reaches the client; a body at the limit gets 200."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession() as session:
        for size, status in ((MAX_BODY_BYTES + 40_000, 413), (MAX_BODY_BYTES, 200)):
            body = b"x" * size
            data = pieces(body) if chunked else body
            async with session.post(f"https://127.0.0.1:{daphne}/", data=data, ssl=context) as response:
                assert response.status == status, await response.text()


class Server:
    """The part of Daphne's server that a request uses."""

    root_path, request_buffer_size, http_timeout = "", 8192, None
    server_name = proxy_forwarded_address_header = application = None

    def __init__(self):
        self.scopes = []
        self.log_action = self.protocol_connected = self.protocol_disconnected = lambda *_: None

    def create_application(self, protocol, scope):
        self.scopes.append(scope)
        return asyncio.Queue()


class Stream:
    """Twisted's HTTP/2 stream: it has no transport and calls gotLength() before the last header."""

    transport = None

    def __init__(self):
        self.server = Server()
        self.factory = SimpleNamespace(server=self.server, log=lambda request: None)
        self.getPeer = self.getHost = lambda: SimpleNamespace(host="127.0.0.1", port=1)
        self.isSecure = lambda: True
        self.requestDone = lambda request: None
        self.status, self.written = None, b""

    def writeHeaders(self, version, code, reason, headers):
        self.status, self.headers = int(code), list(headers.getAllRawHeaders())

    def write(self, data):
        self.written += data

    def receive(self, method, chunks=(), length=None, headers=()):
        from notifications.realtime.servers.daphne_protocols import BoundedRequest

        request = BoundedRequest(self, queued=False)
        request.gotLength(length)
        for name, value in headers:
            request.requestHeaders.addRawHeader(name, value)
        for data in chunks:
            request.handleContentChunk(data)
        request.requestReceived(method, b"/", b"HTTP/2")
        return request


def test_http_2_requests_reach_the_application():
    """HTTP/2 requests without a body, and with one of unknown or large length, reach the application."""
    stream = Stream()
    stream.receive(b"GET", length=0)
    for length in (None, 200_000):
        request = stream.receive(b"POST", [b"x" * 100_000] * 2, length=length)
        with request.body_file as body:
            assert len(body.read()) == 200_000
    assert [scope["method"] for scope in stream.server.scopes] == ["GET", "POST", "POST"]


@pytest.mark.parametrize(
    ("chunks", "headers", "status"),
    [
        ([b"x" * 600] * 2, [], 413),
        ([], [(b"content-type", b"a" * 3000)], 400),
        ([], [(b"content-length", b"1001")], 413),
    ],
    ids=["body", "content type", "length"],
)
def test_http_2_requests_are_refused(settings, chunks, headers, status):
    """A refusal is a response of the HTTP/2 stream, without a Connection header, which HTTP/2 forbids."""
    settings.NOTIFICATIONS = {"MAX_BODY_BYTES": 1000}
    stream = Stream()
    stream.receive(b"POST", chunks, headers=headers)
    assert stream.status == status and dict(stream.headers)[b"Content-Type"] == [b"application/problem+json"]
    assert stream.written and not stream.server.scopes
    assert b"connection" not in {name.lower() for name, _ in stream.headers}

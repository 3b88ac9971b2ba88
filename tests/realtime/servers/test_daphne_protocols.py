"""Request bodies and headers on a real Daphne that serves an ASGI application without Django's handler."""

import contextlib
import hashlib
import os
import socket
import sys
from urllib.request import Request, urlopen

import aiohttp
import pytest

from tests.support.network import free_port, is_listening
from tests.support.processes import Process

pytest.importorskip("daphne")

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MAX_BODY_BYTES = 1_000_000


@pytest.fixture(scope="module")
def daphne(tmp_path_factory):
    port = free_port()
    command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port)]
    process = Process(
        [*command, "tests.realtime.bodies:application"],
        log=tmp_path_factory.mktemp("daphne") / "server.log",
        env={**os.environ, "MAX_BODY_BYTES": str(MAX_BODY_BYTES)},
    )
    process.wait_until(lambda: is_listening(port), what="the server to listen")
    yield port
    process.stop()
    assert "Traceback" not in process.output, process.output


def exchange(port, head, *parts):
    """Send the head and body of a request. Returns all bytes received until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall("\r\n".join([*head, "Host: a", "", ""]).encode("latin-1"))
        with contextlib.suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
        response = b""
        while data := client.recv(65536):
            response += data
    return response


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


async def pieces(body):
    """A body that aiohttp sends in chunks."""
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000, 2 * 65_536, 999_999, MAX_BODY_BYTES])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_bodies_arrive_whole(daphne, size, chunked):
    """Bodies arrive complete, also from disk, at multiples of the piece size, and twice on one connection."""
    body = os.urandom(size)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(2):
            data = pieces(body) if chunked else body
            async with session.post(f"http://127.0.0.1:{daphne}/", data=data, headers=FORM) as response:
                summary = await response.json(content_type=None)
            assert summary["hash"] == hashlib.sha256(body).hexdigest()
            assert summary["largest"] <= 65_536
            assert summary["after"] is None


def test_too_large_body_is_refused_by_its_length(daphne):
    """A Content-Length above the limit gets 413, whether the client waits for 100 Continue or sends the body."""
    head = ["POST / HTTP/1.1", f"Content-Length: {MAX_BODY_BYTES + 1}"]
    for response in (
        exchange(daphne, [*head, "Expect: 100-continue"]),
        exchange(daphne, head),
        exchange(daphne, head, b"x" * (MAX_BODY_BYTES + 1)),
    ):
        assert response.startswith(b"HTTP/1.1 413 ") and b"application/problem+json" in response
        assert response.count(b"HTTP/1.1") == 1 and b"100 Continue" not in response


def test_too_large_chunked_body_is_refused(daphne):
    """A chunked body gets 413 as soon as it exceeds the limit, before its end."""
    chunks = chunk(b"x" * 100_000) * 11
    response = exchange(daphne, ["POST / HTTP/1.1", "Transfer-Encoding: chunked"], chunks)
    assert response.startswith(b"HTTP/1.1 413 ") and response.count(b"HTTP/1.1") == 1


HANDSHAKE = [
    *("GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"),
    *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.mark.parametrize(
    "head",
    [
        [*HANDSHAKE, "Sec-WebSocket-Protocol: caf\xe9"],
        [*HANDSHAKE, "Daphne-Root-Path: /caf\xe9"],
        ["GET / HTTP/1.1", "Daphne-Root-Path: /caf\xe9", "Connection: close"],
        [*HANDSHAKE, "Content-Length: 5"],
        [*HANDSHAKE, "Transfer-Encoding: chunked"],
        ["POST / HTTP/1.1", "Content-Length: 2", "Content-Type: text/plain" + "; a=b" * 2_500],
    ],
    ids=["protocol", "root path of a handshake", "root path", "length", "chunks", "content type"],
)
def test_malformed_headers_get_400(daphne, head):
    """Malformed headers get 400; the server's fixture checks that the log has no traceback."""
    if "Connection: close" not in head:
        head = [line for line in head if line != "Connection: Upgrade"] + ["Connection: Upgrade, close"]
    assert exchange(daphne, head).startswith(b"HTTP/1.1 400 ")


def test_form_is_not_parsed_by_twisted(daphne):
    """A malformed multipart body reaches the application; Twisted would parse it and respond itself."""
    request = Request(
        f"http://127.0.0.1:{daphne}/",
        data=b"no parts",
        headers={"Content-Type": "multipart/form-data"},
    )
    with urlopen(request, timeout=20) as response:
        assert response.status == 200

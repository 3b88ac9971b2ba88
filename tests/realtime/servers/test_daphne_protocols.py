"""Bodies and frames on a real Daphne that serves a project's own ASGI application."""

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
    """Send the lines of a request and its body; return what is answered until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall("\r\n".join([*head, "Host: a", "", ""]).encode("latin-1"))
        with contextlib.suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
        answer = b""
        while some := client.recv(65536):
            answer += some
    return answer


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


async def pieces(body):
    """A body that aiohttp sends in chunks."""
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000, 2 * 65_536, 999_999, MAX_BODY_BYTES])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_bodies_arrive_whole(daphne, size, chunked):
    """Also those that come from disk, where one ends with a piece, and a request that follows on the connection."""
    body = os.urandom(size)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(2):
            data = pieces(body) if chunked else body
            async with session.post(f"http://127.0.0.1:{daphne}/", data=data, headers=FORM) as response:
                answer = await response.json(content_type=None)
            assert answer["hash"] == hashlib.sha256(body).hexdigest()
            assert answer["largest"] <= 65_536
            assert answer["after"] is None


def test_too_large_body_is_refused_by_its_length(daphne):
    """413 by its length, also to a client that waits for 100 Continue, and to one that sends on."""
    head = ["POST / HTTP/1.1", f"Content-Length: {MAX_BODY_BYTES + 1}"]
    for answer in (
        exchange(daphne, [*head, "Expect: 100-continue"]),
        exchange(daphne, head),
        exchange(daphne, head, b"x" * (MAX_BODY_BYTES + 1)),
    ):
        assert answer.startswith(b"HTTP/1.1 413 ") and b"application/problem+json" in answer
        assert answer.count(b"HTTP/1.1") == 1 and b"100 Continue" not in answer


def test_too_large_chunked_body_is_refused(daphne):
    """Before its end."""
    chunks = chunk(b"x" * 100_000) * 11
    answer = exchange(daphne, ["POST / HTTP/1.1", "Transfer-Encoding: chunked"], chunks)
    assert answer.startswith(b"HTTP/1.1 413 ") and answer.count(b"HTTP/1.1") == 1


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
    """And leave no traceback."""
    if "Connection: close" not in head:
        head = [line for line in head if line != "Connection: Upgrade"] + ["Connection: Upgrade, close"]
    assert exchange(daphne, head).startswith(b"HTTP/1.1 400 ")


def test_form_is_not_parsed_by_twisted(daphne):
    """Not by Twisted, which would answer a broken multipart body itself."""
    request = Request(
        f"http://127.0.0.1:{daphne}/",
        data=b"no parts",
        headers={"Content-Type": "multipart/form-data"},
    )
    with urlopen(request, timeout=20) as response:
        assert response.status == 200

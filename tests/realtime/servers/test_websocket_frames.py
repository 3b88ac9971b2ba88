"""Limits on control frames and fragments, which servers do not pass to the application, on real servers."""

import contextlib
import os
import socket
import sys
import time

import pytest

from notifications.realtime.servers import websocket_frames
from notifications.realtime.servers.websocket_frames import FrameCounter
from tests.support.faults.attacks import frame
from tests.support.network import free_port, is_listening
from tests.support.processes import Process

TEXT, CONTINUATION, CLOSE, PING, PONG = 1, 0, 8, 9, 10
SERVERS = {
    "daphne": ("-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "tests.realtime.bodies:application"),
    "uvicorn": (
        *(
            "-m",
            "uvicorn",
            "--port",
            "{port}",
            "--ws",
            "notifications.realtime.servers.uvicorn_websocket:UvicornWebSocket",
        ),
        "tests.realtime.bodies:application",
    ),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    pytest.importorskip(request.param)
    port = free_port()
    process = Process(
        [sys.executable, *(part.format(port=port) for part in SERVERS[request.param])],
        log=tmp_path_factory.mktemp("server") / "server.log",
        env=dict(os.environ),
    )
    process.wait_until(lambda: is_listening(port), what="the server to listen")
    yield port
    process.stop()
    assert "Traceback" not in process.output, process.output


class Client:
    """A WebSocket client that sends raw frames."""

    def __init__(self, port, *headers):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        lines = [
            *("GET / HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"),
            *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers),
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self.data = b""
        self.head = self.until(b"\r\n\r\n")

    def until(self, ending):
        """Return the received bytes up to ``ending``, or all of them if the connection ends before."""
        while ending not in self.data:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                remaining, self.data = self.data, b""
                return remaining
            self.data += data
        found, _, self.data = self.data.partition(ending)
        return found + ending

    def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)


@pytest.fixture
def client(server):
    client = Client(server)
    assert client.head.startswith(b"HTTP/1.1 101 ")
    yield client
    client.socket.close()


def test_client_within_the_limits_is_served(client):
    """The maximum number of pings and of fragments is accepted, and messages after them are answered."""
    client.send(frame(PING, b"p") * websocket_frames.MAX_CONTROL_FRAMES + frame(TEXT, b"first"))
    assert client.until(b"first").count(b"\x8a\x01p") == websocket_frames.MAX_CONTROL_FRAMES
    for word in (b"second", b"third"):
        fragments = frame(CONTINUATION, fin=False) * (websocket_frames.MAX_FRAGMENTS - 2)
        client.send(frame(TEXT, fin=False) + fragments + frame(CONTINUATION, word))
        assert word in client.until(word)


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, b"p") * (websocket_frames.MAX_CONTROL_FRAMES + 1) + frame(TEXT, b"behind"),
        frame(PONG) * (websocket_frames.MAX_CONTROL_FRAMES + 1) + frame(TEXT, b"behind"),
        frame(TEXT, fin=False)
        + frame(CONTINUATION, fin=False) * websocket_frames.MAX_FRAGMENTS
        + frame(CONTINUATION, b"behind"),
    ],
    ids=["pings", "pongs", "fragments"],
)
def test_too_many_frames_drop_the_connection(client, flood):
    """One frame above a limit ends the connection, and later frames are not processed."""
    client.send(flood)
    assert b"behind" not in client.until(b"never")


@pytest.mark.parametrize(
    "text",
    [frame(TEXT, b"\xff"), frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\x28")],
    ids=["whole", "in fragments"],
)
def test_invalid_utf8_closes_the_connection(client, text):
    """Invalid UTF-8 closes the connection; the server's fixture checks that the log has no traceback."""
    client.send(frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xa4"))
    assert client.until(b"\xc3\xa4")
    client.send(text + text + frame(TEXT, b"behind"))
    assert b"behind" not in client.until(b"never")


def test_invalid_utf8_after_the_close_is_dropped(client):
    """Invalid UTF-8 after the server's close is dropped, and the client's close ends the connection."""
    client.send(frame(TEXT, b"close"))
    assert client.until(b"\x88\x02\x0f\xa0")
    client.send(frame(TEXT, b"\xff") + frame(CLOSE, b"\x0f\xa0"))
    assert client.until(b"never") == b""


def test_a_flood_after_the_close_does_not_discard_the_close(client):
    """The client gets the close code of the application, however much it has sent until it reads."""
    client.send(frame(TEXT, b"close") + frame(TEXT, b"late") * 50_000)
    assert b"\x88\x02\x0f\xa0" in client.until(b"\x88\x02\x0f\xa0")


def test_fragments_of_a_large_message_are_not_counted():
    """Only small fragments are counted: clients may send a large message in pieces, and its size has its own limit."""
    counter = FrameCounter()
    size = websocket_frames.MIN_FRAGMENT_BYTES
    assert counter.allows(TEXT, size, is_closing=False)
    assert all(counter.allows(CONTINUATION, size, is_closing=False) for _ in range(5_000))
    small = [
        counter.allows(CONTINUATION, size - 1, is_closing=False)
        for _ in range(websocket_frames.MAX_FRAGMENTS)
    ]
    assert all(small[:-1]) and not small[-1]


def test_frames_after_the_close_are_limited():
    """After the close a few frames that were already sent are accepted, and the client's close always is."""
    counter = FrameCounter()
    for _ in range(websocket_frames.MAX_FRAMES_AFTER_CLOSE):
        assert counter.allows(TEXT, 1, is_closing=True)
    assert not counter.allows(TEXT, 1, is_closing=True)
    assert counter.allows(CLOSE, 1, is_closing=True)


def test_count_of_control_frames_is_reset(monkeypatch):
    """The count of control frames starts again after CONTROL_FRAMES_SECONDS."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counter = FrameCounter()
    for _ in range(5):
        assert all(
            counter.allows(PING, 1, is_closing=False) for _ in range(websocket_frames.MAX_CONTROL_FRAMES)
        )
        assert not counter.allows(PONG, 1, is_closing=False)
        now[0] += websocket_frames.CONTROL_FRAMES_SECONDS
    assert counter.allows(CLOSE, 1, is_closing=False)

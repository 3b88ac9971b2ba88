"""Frames that no consumer sees, on real servers: what any client needs passes, and a flood ends the connection."""

import contextlib
import os
import socket
import sys

import pytest

from notifications.realtime.servers import websocket_frames
from notifications.realtime.servers.websocket_frames import FrameCounter
from tests.faults.support.attacks import frame
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
    """A WebSocket of bare frames."""

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
        """What came up to some bytes; without them up to the end of the connection."""
        while ending not in self.data:
            try:
                some = self.socket.recv(65536)
            except ConnectionError:
                some = b""
            if not some:
                rest, self.data = self.data, b""
                return rest
            self.data += some
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
    """The most that are allowed: pings, fragments, and a message after each."""
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
    """Without an answer to what comes behind it."""
    client.send(flood)
    assert b"behind" not in client.until(b"never")


@pytest.mark.parametrize(
    "text",
    [frame(TEXT, b"\xff"), frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\x28")],
    ids=["whole", "in fragments"],
)
def test_invalid_utf8_closes_the_connection(client, text):
    """Without a traceback in the log, of which the server's fixture makes sure."""
    client.send(frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xa4"))
    assert client.until(b"\xc3\xa4")
    client.send(text + text + frame(TEXT, b"behind"))
    assert b"behind" not in client.until(b"never")


def test_invalid_utf8_after_the_close_is_dropped(client):
    """The close of the client ends the connection, without a traceback in the log."""
    client.send(frame(TEXT, b"close"))
    assert client.until(b"\x88\x02\x0f\xa0")
    client.send(frame(TEXT, b"\xff") + frame(CLOSE, b"\x0f\xa0"))
    assert client.until(b"never") == b""


def test_fragments_of_a_large_message_are_not_counted():
    """Many clients send one in pieces of their buffer, of 4 KiB, say; the server bounds its size."""
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
    """What was under way, and the close of the client."""
    counter = FrameCounter()
    for _ in range(websocket_frames.MAX_FRAMES_AFTER_CLOSE):
        assert counter.allows(TEXT, 1, is_closing=True)
    assert not counter.allows(TEXT, 1, is_closing=True)
    assert counter.allows(CLOSE, 1, is_closing=True)


def test_count_of_control_frames_is_reset(monkeypatch):
    """A client that sends some for days is none that floods."""
    now = [1000.0]
    monkeypatch.setattr(websocket_frames.time, "monotonic", lambda: now[0])
    counter = FrameCounter()
    for _ in range(5):
        assert all(
            counter.allows(PING, 1, is_closing=False) for _ in range(websocket_frames.MAX_CONTROL_FRAMES)
        )
        assert not counter.allows(PONG, 1, is_closing=False)
        now[0] += websocket_frames.CONTROL_FRAMES_SECONDS
    assert counter.allows(CLOSE, 1, is_closing=False)

"""Handshakes on a real uvicorn to which its own protocol class does not respond."""

import contextlib
import socket

import pytest

from tests.support.faults.attacks import Target, frame, handshake
from tests.support.network import is_listening

pytest.importorskip("uvicorn")


@pytest.fixture
def uvicorn(site):
    """A site on uvicorn, started with uvicorn's ordinary command."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.web = site.start("web", "-m", "uvicorn", "--port", site.port, "asyncsite.asgi:application")
    site.web.wait_until(lambda: is_listening(site.port), what="the server to listen")
    return site


def exchange(site, head, *parts):
    """Send a handshake and, once the server has responded, the parts.

    Returns the bytes received until the server closes the connection.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as client:
        client.sendall(head)
        with contextlib.suppress(ConnectionError):
            received += client.recv(65536)
            for part in parts:
                client.sendall(part)
            while data := client.recv(65536):
                received += data
    return received


def test_handshake_with_long_header_line_gets_431(uvicorn):
    """A header line above the limit gets 431, whichever header it is; one below the limit is accepted."""
    target = Target(port=uvicorn.port)
    for name in ("Cookie", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "X-Other"):
        refused = exchange(uvicorn, handshake(target, f"{name}: {'a' * 8_200}"))
        assert refused.startswith(b"HTTP/1.1 431 "), (name, refused)
    # The client is not signed in: its handshake is accepted, then it gets the bye signed_out.
    close = frame(8, b"\x03\xe8")
    assert b"signed_out" in exchange(uvicorn, handshake(target, f"X-Other: {'a' * 8_000}"), close)
    assert "Traceback" not in uvicorn.log()

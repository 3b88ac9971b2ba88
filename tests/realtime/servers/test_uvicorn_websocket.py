"""Handshakes on a real uvicorn to which its own class gives no answer."""

import contextlib
import socket

import pytest

from tests.faults.support.attacks import Target, frame, handshake
from tests.support.network import is_listening

pytest.importorskip("uvicorn")


@pytest.fixture
def uvicorn(site):
    """A site on uvicorn, started as any project is."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.web = site.start("web", "-m", "uvicorn", "--port", site.port, "asyncsite.asgi:application")
    site.web.wait_until(lambda: is_listening(site.port), what="the server to listen")
    return site


def answer(site, *parts):
    """What is answered before the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as client:
        for part in parts:
            client.sendall(part)
        with contextlib.suppress(ConnectionResetError):
            while some := client.recv(65536):
                received += some
    return received


def test_handshake_with_long_header_line_gets_431(uvicorn):
    """431, whichever header it is; others are as before."""
    target = Target(port=uvicorn.port)
    for name in ("Cookie", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "X-Other"):
        refused = answer(uvicorn, handshake(target, f"{name}: {'a' * 8_200}"))
        assert refused.startswith(b"HTTP/1.1 431 "), (name, refused)
    # Nobody is signed in: a handshake is accepted, and the end is said behind it.
    close = frame(8, b"\x03\xe8")
    assert b"signed_out" in answer(uvicorn, handshake(target, f"X-Other: {'a' * 8_000}"), close)
    assert "Traceback" not in uvicorn.log()

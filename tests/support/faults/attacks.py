"""The attacks of a hostile client, with bytes built before the measurement starts.

Each attack is a function of a target that blocks until the server has responded or closed, or `seconds` have passed.
"""

import base64
import contextlib
import os
import socket
import time
from dataclasses import dataclass

CSRF_TOKEN = "a" * 32
BOUNDARY = "0123456789"
LOGIN, CHECK = "/accounts/login/", "/check/"
READ, SYNC = "/notifications/api/notifications/read/", "/notifications/api/sync/"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server, and the session of a signed-in user, or an empty one."""

    port: int
    session: str = ""
    seconds: float = 3.0

    def headers(self, *lines):
        cookies = [f"csrftoken={CSRF_TOKEN}", *([f"sessionid={self.session}"] if self.session else [])]
        return [f"Host: 127.0.0.1:{self.port}", f"Cookie: {'; '.join(cookies)}", *lines]

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=self.seconds)

    def exchange(self, *parts):
        """Send parts, and return the response until the server closed or the time was over."""
        deadline = time.monotonic() + self.seconds
        response = b""
        with contextlib.suppress(OSError), self.connect() as client:
            with contextlib.suppress(OSError):  # The server may close early. Its response can still be read.
                for part in parts:
                    client.sendall(part)
            while (left := deadline - time.monotonic()) > 0:
                client.settimeout(left)
                if not (chunk := client.recv(65536)):
                    break
                response += chunk
                if len(response) > 64 * 1024:
                    response = response[:1024]
        return response


def request(target, method, path, *headers, body=b""):
    """Return the bytes of a request, after which the server closes."""
    lines = [f"{method} {path} HTTP/1.1", *target.headers("Connection: close", *headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def part(name, content, filename=""):
    file = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def handshake(target, *headers):
    """Return the bytes of a handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = target.headers(
        f"Origin: http://127.0.0.1:{target.port}",
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        *(f"Sec-WebSocket-Key: {key}", *headers),
    )
    return "\r\n".join(["GET /ws/notifications/ HTTP/1.1", *lines, "", ""]).encode("latin-1")


def frame(opcode, payload=b"", fin=True):
    """Return a masked frame of less than 126 bytes (RFC 6455, section 5.2); a mask of zeros changes nothing."""
    return bytes([opcode | (0x80 if fin else 0), 0x80 | len(payload), 0, 0, 0, 0]) + payload


HELLO = frame(1, b'{"op":"hello","epoch":null,"seq":null}')


def frames(data):
    """Return an attack that sends frames after a hello."""

    def attack(target):
        deadline = time.monotonic() + target.seconds
        with contextlib.suppress(OSError), target.connect() as client:
            client.sendall(handshake(target))
            client.recv(4096)  # The response, so that frames do not arrive before it.
            client.settimeout(target.seconds)
            with contextlib.suppress(OSError):
                client.sendall(HELLO + data)
            while time.monotonic() < deadline and client.recv(65536):
                pass

    return attack

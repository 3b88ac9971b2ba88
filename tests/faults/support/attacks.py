"""The attacks of a hostile client, with bytes built before the measurement starts.

Each attack is a function of a target that blocks until the server has responded or closed, or `seconds` have passed.
"""

import base64
import contextlib
import json
import os
import socket
import time
from dataclasses import dataclass
from itertools import product

CSRF_TOKEN = "a" * 32
MB = 1024 * 1024
BOUNDARY = "0123456789"
FORM = "application/x-www-form-urlencoded"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
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


def post(path, kind, body):
    headers = [f"Content-Type: {kind}", *([f"X-CSRFToken: {CSRF_TOKEN}"] if path == READ else [])]
    return lambda target: target.exchange(request(target, "POST", path, *headers, body=body))


def get(path, *headers):
    return lambda target: target.exchange(request(target, "GET", path, *headers))


def part(name, content, filename=""):
    file = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def multipart(*parts):
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def tiny_chunks(count):
    """Return an attack with a body in chunks of one byte."""

    def attack(target):
        head = request(target, "POST", LOGIN, f"Content-Type: {FORM}", "Transfer-Encoding: chunked")
        return target.exchange(head, b"1\r\na\r\n" * count + b"0\r\n\r\n")

    return attack


def slow_bodies(target):
    """Send 100 bodies byte by byte."""
    head = request(target, "POST", LOGIN, f"Content-Type: {FORM}", "Content-Length: 100000")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(target.connect()) for _ in range(100)]
        for client in clients:
            client.sendall(head)
        for _ in range(10):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"a")
            time.sleep(0.05)


def silent_connections(target):
    """Open 2,000 connections that send nothing.

    They are opened and closed 50 at a time, until the server has responded. Behind more at once new clients wait for
    the kernel, for a time that depends on the load of the machine.
    """
    clients = []
    for _ in range(40):
        for _ in range(50):
            with contextlib.suppress(OSError):
                clients.append(target.connect())
        target.exchange(request(target, "GET", "/upstream/ok"))
    while clients:
        for client in clients[:50]:
            client.close()
        del clients[:50]
        target.exchange(request(target, "GET", "/upstream/ok"))


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


def deep(depth):
    return b'{"up_to":' + b"[" * depth + b"]" * depth + b"}"


def make_header_attacks():
    """Yield attacks with long headers; Daphne itself refuses those over 16 KiB."""
    for name, size in product(("Accept", "Prefer", "If-None-Match", "Cookie"), (15_000, 100_000)):
        for content, text in (("spaces", " "), ("quotes and separators", ';b="c,')):
            value = f"a{(text * size)[: size - 200]}b"
            yield f"{name} of {size // 1000} kB of {content}", get(SYNC, f"{name}: {value}")


#: Attacks without a session.
ANONYMOUS_ATTACKS = {
    "a form of 1 MB": post(LOGIN, FORM, b"a=" + b"x" * MB),
    "a form of 1 MB of separators": post(LOGIN, FORM, b"&" * MB),
    "a form of 15 MB": post(LOGIN, FORM, b"a=" + b"x" * 15 * MB),
    "a form of 20 MB": post(LOGIN, FORM, b"a=" + b"x" * 20 * MB),
    "a form of 2 MB of escapes": post(LOGIN, FORM, b"a=" + b"%61" * (2 * MB // 3)),
    "a form of 200,000 fields": post(LOGIN, FORM, b"a=1&" * 200_000),
    "a file of 15 MB": post(LOGIN, MULTIPART, multipart(part("file", b"x" * 15 * MB, "a.txt"))),
    "100,000 parts": post(LOGIN, MULTIPART, multipart(part("a", b"1") * 100_000)),
    "a multipart body of 5 MB without a boundary": post(LOGIN, MULTIPART, b"-" * 5 * MB),
    "a multipart body of 5 MB of lines": post(LOGIN, MULTIPART, b"\r\n" * (5 * MB // 2)),
    "500,000 chunks of one byte": tiny_chunks(500_000),
    "100 slow bodies": slow_bodies,
    "2,000 silent connections": silent_connections,
    "a Content-Type of 15 kB": post(LOGIN, f"{MULTIPART}{'; a' * 4_900}", b"a" * 100),
}
#: Attacks with a session.
USER_ATTACKS = {
    "a form of 2 MB of escapes to an async view": post(CHECK, FORM, b"a=" + b"%61" * (2 * MB // 3)),
    "a file of 15 MB to an async view": post(CHECK, MULTIPART, multipart(part("a", b"x" * 15 * MB, "a.txt"))),
    "deep JSON": post(READ, JSON, deep(500_000)),
    "JSON of 65,000 keys": post(READ, JSON, json.dumps({str(n): n for n in range(65_000)}).encode()),
    "JSON of 20 MB": post(READ, JSON, b"[" + b"1," * (10 * MB) + b"1]"),
    **dict(make_header_attacks()),
    "300,000 fragments of one byte": frames(
        frame(1, b"a", fin=False) + frame(0, b"a", fin=False) * 300_000 + frame(0)
    ),
    "300,000 empty fragments": frames(frame(1, fin=False) + frame(0, fin=False) * 300_000 + frame(0)),
    "100,000 pings": frames(frame(9) * 100_000),
    "100,000 pongs": frames(frame(10) * 100_000),
    "100,000 messages": frames(frame(1, b'{"op":"ping"}') * 100_000),
    "2,000 messages in fragments": frames(
        (frame(1, fin=False) + frame(0, fin=False) * 100 + frame(0, b'{"op":"ping"}')) * 2_000
    ),
}
ATTACKS = ANONYMOUS_ATTACKS | USER_ATTACKS

"""Thousands of WebSocket clients in a process of their own, on a core of their own, as cheap as Python makes them.

Each greets, acks what it is asked to ack and answers pings, as a browser would; no compression is offered. A message
carries the time at which it was told as its ``title``, and the time of its arrival is taken as it is read.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import multiprocessing
import os
import select
import socket
import struct
import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Any

#: Handshakes under way at once; the servers let so many wait at their door.
AT_ONCE = 500
PROTOCOL = "notifications.v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """Whom to connect: the ``path``, the session's cookie, and the hello to send, None for stock."""

    path: str
    session: str
    hello: str | None


class Clients:
    """The process: ``open`` sockets, wait until they have ``arrived``, ``close`` them all."""

    def __init__(self, core: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, core), daemon=True)
        self._process.start()

    def open(self, port: int, clients: list[Client]) -> float:
        """Connect these, and return the seconds until the last of them had its first sync, or was accepted."""
        return self._ask("open", port, clients)

    def arrived(self, count: int, within: float) -> array:
        """Wait for so many messages, and return how long each was under way (s), of those that came in time."""
        return self._ask("arrived", count, within)

    def positions(self) -> list[tuple[str, int]]:
        """Return epoch and seq to which each client has everything, in the order of ``open``."""
        return self._ask("positions")

    def close(self) -> None:
        """Cut all connections."""
        self._ask("close")

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()

    def _ask(self, *asked: Any) -> Any:
        self._pipe.send(asked)
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _run(pipe, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    crowd = _Crowd(pipe)
    while True:
        while not pipe.poll():
            crowd.turn(60)
        name, *args = pipe.recv()
        try:
            pipe.send(getattr(crowd, name)(*args))
        except Exception as exc:
            pipe.send(exc)


class _Crowd:
    def __init__(self, pipe) -> None:
        self.pipe = pipe
        self.epoll = select.epoll()
        self.epoll.register(pipe.fileno(), select.EPOLLIN)
        self.sockets: dict[int, _Socket] = {}
        self.in_order: list[_Socket] = []
        self.ready = 0
        self.times = array("d")

    def open(self, port: int, clients: list[Client]) -> float:
        waiting, opened, start = deque(clients), len(self.in_order), time.perf_counter()
        while self.ready < opened + len(clients):
            while waiting and len(self.in_order) - self.ready < AT_ONCE:
                one = _Socket(self, port, waiting.popleft())
                self.sockets[one.fd] = one
                self.in_order.append(one)
            self.turn(1.0)
            if time.perf_counter() - start > 300:
                raise TimeoutError(f"{self.ready} of {len(clients)} clients are connected after 300 s.")
        return time.perf_counter() - start

    def arrived(self, count: int, within: float) -> array:
        until = time.monotonic() + within
        while len(self.times) < count and time.monotonic() < until:
            self.turn(0.01)
        times, self.times = self.times, array("d")
        return times

    def positions(self) -> list[tuple[str, int]]:
        return [one.position() for one in self.in_order]

    def close(self) -> None:
        for one in self.in_order:
            one.socket.close()
        self.epoll.close()
        self.__init__(self.pipe)

    def turn(self, timeout: float) -> None:
        for fd, _ in self.epoll.poll(timeout, 512):
            if fd in self.sockets:
                self.sockets[fd].read()


class _Socket:
    __slots__ = ("crowd", "data", "epoch", "fd", "hello", "last", "open", "socket")

    def __init__(self, crowd: _Crowd, port: int, client: Client) -> None:
        self.crowd = crowd
        self.hello = client.hello
        self.open = False
        self.data = b""
        self.epoch = ""
        self.last = b'"seq":0,'  # the frame that moved the position last
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()
        crowd.epoll.register(self.fd, select.EPOLLIN)
        offered = "" if client.hello is None else f"Sec-WebSocket-Protocol: {PROTOCOL}\r\n"
        self.socket.sendall(
            f"GET {client.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
            f"Cookie: sessionid={client.session}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offered}"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def read(self) -> None:
        try:
            data = self.socket.recv(262_144)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            raise
        if not data:
            raise ConnectionError(f"The server closed a connection: {self.data[:200]!r}")
        now = time.time()
        data = self.data + data if self.data else data
        if not self.open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.data = head
                return
            if b" 101 " not in head[:16]:
                raise ConnectionError(f"The server refused a connection: {head[:200]!r}")
            self.open = True
            if self.hello is None:
                self.crowd.ready += 1
            else:
                self.send(0x81, self.hello.encode())
        at, size = 0, len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, start = (data[at + 2] << 8) | data[at + 3], at + 4
            elif length == 127:
                if size - at < 10:
                    break
                length, start = struct.unpack_from("!Q", data, at + 2)[0], at + 10
            if size < start + length:
                break
            self.take(data[at] & 15, data[start : start + length], now)
            at = start + length
        self.data = data[at:]

    def take(self, op: int, payload: bytes, now: float) -> None:
        if op == 9:
            self.send(0x8A, payload)
            return
        if op == 8:
            raise ConnectionError(f"The server closed a connection: {payload!r}")
        if self.hello is not None:
            # {"op":"change","n":12,"ack":true,…: what is needed is at its place, parsing would cost more.
            at = payload.find(b'"n":', 8, 24)
            if at < 0:  # a beat
                return
            end = payload.index(b",", at)
            if payload.startswith(b'"ack":true', end + 1):
                self.send(0x81, b'{"op":"ack",%s}' % payload[at:end])
            if payload.startswith(b'{"op":"sync"'):
                self.synced(payload)
            if not payload.startswith(b'{"op":"change"'):
                return
            self.last = payload
        at = payload.find(b'"title":')
        while at >= 0:
            start = payload.index(b'"', at + 8) + 1
            self.crowd.times.append(now - float(payload[start : payload.index(b'"', start)]))
            at = payload.find(b'"title":', start)

    def synced(self, payload: bytes) -> None:
        text = payload[:300].decode(errors="replace")
        self.epoch = text.partition('"epoch":"')[2].partition('"')[0]
        self.last = payload
        if '"more":false' in text:
            self.crowd.ready += 1

    def position(self) -> tuple[str, int]:
        at = self.last.index(b'"seq":') + 6
        return self.epoch, int(self.last[at : self.last.index(b",", at)])

    def send(self, first: int, payload: bytes) -> None:
        # Masked with zeros: what follows stays as it is.
        with contextlib.suppress(BlockingIOError):
            self.socket.send(bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload)

"""Thousands of WebSocket clients in a separate process on its own core, with as little work as possible in Python.

Each sends hello, acks and pongs, like a browser, and offers no compression. The ``title`` of a message is the time at
which it was sent; its arrival is measured when it is read.
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

#: Concurrent handshakes, below the backlog of the servers.
MAX_HANDSHAKES = 500
PROTOCOL = "notifications.v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """The ``path`` to connect to, the session's cookie, and the hello to send (None for stock)."""

    path: str
    session: str
    hello: str | None


class Clients:
    """The process of the clients, controlled over a pipe."""

    def __init__(self, core: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_run, args=(child_pipe, core), daemon=True)
        self._process.start()

    def open(self, port: int, clients: list[Client]) -> float:
        """Connect clients, and return the seconds until the last one had its first sync, or for stock was accepted."""
        return self._call("open", port, clients)

    def arrived(self, count: int, within: float) -> array:
        """Wait for `count` messages, and return the latencies in seconds of those that arrived in time."""
        return self._call("arrived", count, within)

    def positions(self) -> list[tuple[str, int]]:
        """Return the position of each client, as epoch and seq, in the order of ``open``."""
        return self._call("positions")

    def close(self) -> None:
        """Close all connections."""
        self._call("close")

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()

    def _call(self, *command: Any) -> Any:
        self._pipe.send(command)
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result


def _run(pipe, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    loop = _EventLoop(pipe)
    while True:
        while not pipe.poll():
            loop.run_once(60)
        name, *args = pipe.recv()
        try:
            pipe.send(getattr(loop, name)(*args))
        except Exception as exc:
            pipe.send(exc)


class _EventLoop:
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
            while waiting and len(self.in_order) - self.ready < MAX_HANDSHAKES:
                client_socket = _Socket(self, port, waiting.popleft())
                self.sockets[client_socket.fd] = client_socket
                self.in_order.append(client_socket)
            self.run_once(1.0)
            if time.perf_counter() - start > 300:
                raise TimeoutError(f"{self.ready} of {len(clients)} clients are connected after 300 s.")
        return time.perf_counter() - start

    def arrived(self, count: int, within: float) -> array:
        until = time.monotonic() + within
        while len(self.times) < count and time.monotonic() < until:
            self.run_once(0.01)
        times, self.times = self.times, array("d")
        return times

    def positions(self) -> list[tuple[str, int]]:
        return [client_socket.position() for client_socket in self.in_order]

    def close(self) -> None:
        for client_socket in self.in_order:
            client_socket.socket.close()
        self.epoll.close()
        self.__init__(self.pipe)

    def run_once(self, timeout: float) -> None:
        for fd, _ in self.epoll.poll(timeout, 512):
            if fd in self.sockets:
                self.sockets[fd].read()


class _Socket:
    __slots__ = ("data", "epoch", "fd", "hello", "last", "loop", "open", "socket")

    def __init__(self, loop: _EventLoop, port: int, client: Client) -> None:
        self.loop = loop
        self.hello = client.hello
        self.open = False
        self.data = b""
        self.epoch = ""
        self.last = b'"seq":0,'  # The last frame with a position.
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()
        loop.epoll.register(self.fd, select.EPOLLIN)
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
                self.loop.ready += 1
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
            self.receive(data[at] & 15, data[start : start + length], now)
            at = start + length
        self.data = data[at:]

    def receive(self, op: int, payload: bytes, now: float) -> None:
        if op == 9:
            self.send(0x8A, payload)
            return
        if op == 8:
            raise ConnectionError(f"The server closed a connection: {payload!r}")
        if self.hello is not None:
            # {"op":"change","n":12,"ack":true,…: the keys have fixed places, and parsing would cost more.
            at = payload.find(b'"n":', 8, 24)
            if at < 0:  # a beat
                return
            end = payload.index(b",", at)
            if payload.startswith(b'"ack":true', end + 1):
                self.send(0x81, b'{"op":"ack",%s}' % payload[at:end])
            if payload.startswith(b'{"op":"sync"'):
                self.receive_sync(payload)
            if not payload.startswith(b'{"op":"change"'):
                return
            self.last = payload
        at = payload.find(b'"title":')
        while at >= 0:
            start = payload.index(b'"', at + 8) + 1
            self.loop.times.append(now - float(payload[start : payload.index(b'"', start)]))
            at = payload.find(b'"title":', start)

    def receive_sync(self, payload: bytes) -> None:
        text = payload[:300].decode(errors="replace")
        self.epoch = text.partition('"epoch":"')[2].partition('"')[0]
        self.last = payload
        if '"more":false' in text:
            self.loop.ready += 1

    def position(self) -> tuple[str, int]:
        at = self.last.index(b'"seq":') + 6
        return self.epoch, int(self.last[at : self.last.index(b",", at)])

    def send(self, first: int, payload: bytes) -> None:
        # A mask of zeros leaves the payload as it is.
        with contextlib.suppress(BlockingIOError):
            self.socket.send(bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload)

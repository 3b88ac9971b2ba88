"""No request or frame of one client makes other clients wait, on Daphne and uvicorn with their usual options."""

import asyncio
import contextlib
import json
import os
import resource
import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import product

import aiohttp
import pytest

from tests.support.faults.attacks import (
    BOUNDARY,
    CHECK,
    CSRF_TOKEN,
    LOGIN,
    READ,
    SYNC,
    Target,
    frame,
    frames,
    part,
    request,
)
from tests.support.faults.engine import ROUNDS
from tests.support.network import is_listening
from tests.support.waiting import wait_until

MB = 1024 * 1024
FORM = "application/x-www-form-urlencoded"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"


def post(path, kind, body):
    headers = [f"Content-Type: {kind}", *([f"X-CSRFToken: {CSRF_TOKEN}"] if path == READ else [])]
    return lambda target: target.exchange(request(target, "POST", path, *headers, body=body))


def get(path, *headers):
    return lambda target: target.exchange(request(target, "GET", path, *headers))


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


SOCKET_COUNT = 100
PING_INTERVAL_SECONDS = 0.02
NEW_CLIENT_INTERVAL_SECONDS = 0.1


@dataclass
class Waits:
    """Seconds until each response."""

    beats: list = field(default_factory=list)
    new_clients: list = field(default_factory=list)

    @property
    def worst(self):
        return max([*self.beats, *self.new_clients], default=0.0)


class Bystanders:
    """Clients in their own thread; `measure(attack)` returns how long they waited during it."""

    def __init__(self, site, session):
        self.site, self.session = site, session
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.sockets = deque()  # Those without a pending ping.
        self.run(self._open())

    def run(self, coroutine, timeout=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def measure(self, attack, *arguments):
        """Run an attack in this thread, and return how long other clients waited until shortly after its end."""
        ended = threading.Event()
        probing = asyncio.run_coroutine_threadsafe(self._probe(ended), self.loop)
        try:
            attack(*arguments)
        finally:
            ended.set()
        return probing.result(120)

    def close(self):
        self.run(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _open(self):
        self.http = aiohttp.ClientSession(
            cookies={"sessionid": self.session}, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        )
        for _ in range(SOCKET_COUNT):
            socket = await self.http.ws_connect(
                f"{self.site.url}/ws/notifications/", headers={"Origin": self.site.url}
            )
            await socket.send_str('{"op":"hello","epoch":null,"seq":null}')
            await self._wait_for(socket, "sync")
            self.sockets.append(socket)

    async def _close(self):
        for socket in self.sockets:
            await socket.close()
        await self.http.close()

    async def _probe(self, ended):
        waits = Waits()
        tasks, last_new = [], 0.0
        while not ended.is_set():
            now = time.monotonic()
            if self.sockets:
                tasks.append(asyncio.create_task(self._beat(self.sockets.popleft(), waits.beats)))
            if now - last_new >= NEW_CLIENT_INTERVAL_SECONDS:
                last_new = now
                tasks.append(asyncio.create_task(self._connect_new_client(waits.new_clients)))
            await asyncio.sleep(PING_INTERVAL_SECONDS)
        await asyncio.gather(*tasks)
        return waits

    async def _beat(self, socket, waits):
        started = time.monotonic()
        await socket.send_str('{"op":"ping"}')
        await self._wait_for(socket, "beat")
        waits.append(time.monotonic() - started)
        self.sockets.append(socket)

    async def _connect_new_client(self, waits):
        """Send a request of a new client, to a view on the event loop without Django."""
        started = time.monotonic()
        async with self.http.get(f"{self.site.url}/upstream/ok") as response:
            await response.read()
        waits.append(time.monotonic() - started)

    async def _wait_for(self, socket, op):
        while True:
            frame = json.loads(await socket.receive_str(timeout=100))
            if frame.get("ack"):
                await socket.send_str(json.dumps({"op": "ack", "n": frame["n"]}))
            if frame["op"] == op:
                return


#: The additional time that other clients may wait during an attack, on a machine that is as fast as the one of the
#: measurements: there count_slowly() takes so many seconds of CPU.
MAX_STALL_SECONDS, REFERENCE_CPU_SECONDS = 0.25, 0.05
#: The smallest of several measurements counts, because other processes use the machine too.
TRIES = 5
#: The growth of the server after the attacks, and at its peak.
MAX_GROWTH_MB, MAX_PEAK_MB = 80, 128
LARGE_ATTACKS = [
    *("a form of 15 MB", "a file of 15 MB", "100,000 parts", "JSON of 20 MB", "500,000 chunks of one byte"),
    *("Prefer of 100 kB of quotes and separators", "300,000 empty fragments", "100,000 messages"),
]

CREATE_SESSIONS = """
from django.contrib.auth import get_user_model
from django.test import Client
for name in ("demo", "other"):
    client = Client()
    client.force_login(get_user_model().objects.get(username=name))
    print(client.cookies["sessionid"].value)
"""
SERVERS = {
    # Daphne's default backlog of 50 connections is not tested here.
    "daphne": ("-m", "daphne", "-e", "tcp:port={port}:interface=127.0.0.1:backlog=2048"),
    "uvicorn": ("-m", "uvicorn", "--port", "{port}"),
}


def count_slowly():
    texts = {}
    for number in range(200_000):
        texts[number % 1000] = str(number)


def measure_slowness():
    """Return how many times as long as on the machine of the measurements Python's code takes here and now."""
    seconds = []
    for _ in range(9):
        before = time.thread_time()
        count_slowly()
        seconds.append(time.thread_time() - before)
    return max(1.0, statistics.median(seconds) / REFERENCE_CPU_SECONDS)


class AttackedServer:
    """A server with other clients, and the time that these wait without an attack."""

    def __init__(self, site, bystanders, session):
        self.site, self.bystanders, self.session = site, bystanders, session
        self.pid = site.web.pid
        # The smaller of two, because an earlier attack may still have effects.
        self.baseline = min(self._measure_baseline() for _ in range(2))
        self.memory_at_start = self.memory()

    def _measure_baseline(self):
        return self.bystanders.measure(time.sleep, 1.0).worst

    def measure_stall_again(self, name, *, signed_in):
        """Return what measure_stall() returns, less what other clients wait now: the machine may have become busy."""
        busier = max(self._measure_baseline() - self.baseline, 0.0)
        return self.measure_stall(name, signed_in=signed_in) - busier

    def measure_stall(self, name, *, signed_in):
        """Return the additional seconds that other clients wait during an attack; fail if its response is a 5xx.

        Time beyond the CPU time of the server is due to other processes.
        """
        target = Target(port=self.site.port, session=self.session if signed_in else "")
        responses = []
        before = self.cpu_seconds()
        waits = self.bystanders.measure(lambda: responses.append(ATTACKS[name](target)))
        assert not (responses[0] or b"").startswith(b"HTTP/1.1 5"), responses
        return min(waits.worst - self.baseline, self.cpu_seconds() - before)

    def cpu_seconds(self):
        """Return the CPU time that the server has used."""
        with open(f"/proc/{self.pid}/stat") as stat:
            return sum(map(int, stat.read().split()[13:15])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field="VmRSS"):
        """Return the resident memory in MB, or its peak (VmHWM)."""
        with open(f"/proc/{self.pid}/status") as status:
            (line,) = (line for line in status if line.startswith(f"{field}:"))
        return int(line.split()[1]) // 1024


@pytest.fixture(scope="module", params=SERVERS)
def attacked(request, sites):
    pytest.importorskip(request.param)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    site = sites.make()
    site.environment["EMBEDDED_WORKER"] = "0"
    site.notifications["SOCKETS_PER_USER"] = 1000
    command = [part.format(port=site.port) for part in SERVERS[request.param]]
    site.web = site.start("web", *command, "asyncsite.asgi:application")
    site.web.wait_until(lambda: is_listening(site.port), what="the server to listen")
    session, other = site.python(CREATE_SESSIONS).split()
    bystanders = Bystanders(site, session)
    yield AttackedServer(site, bystanders, other)
    bystanders.close()
    site.close()


@pytest.mark.nightly_names(
    "*[daphne-500,000 chunks of one byte]",
    "*[daphne-a form of 1 MB of*",
    "*[daphne-a form of 1 MB]",
    "*[daphne-a form of 15 MB]",
    "*[daphne-a form of 2 MB of escapes]",
    "*[uvicorn-*]",
)
@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize("name", ATTACKS)
def test_other_clients_do_not_wait_for_a_hostile_one(attacked, name):
    """The long form attacks several times, with and without a session."""
    for number in range(1 + ROUNDS // 20):
        signed_in = (name not in ANONYMOUS_ATTACKS) ^ (number % 2)
        stalls = [attacked.measure_stall(name, signed_in=signed_in)]
        while len(stalls) < TRIES and min(stalls) > MAX_STALL_SECONDS:
            stalls.append(attacked.measure_stall_again(name, signed_in=signed_in))
        slowness = 1.0 if min(stalls) <= MAX_STALL_SECONDS else measure_slowness()
        report = f"{name}: {', '.join(f'{stall:.3f}' for stall in stalls)} s, slowness {slowness:.1f}"
        print(report)
        assert min(stalls) <= MAX_STALL_SECONDS * slowness, report


@pytest.mark.nightly
@pytest.mark.timeout(120 + ROUNDS)
def test_memory_is_released(attacked):
    """After the attacks the server's memory returns to its initial level, and its peak is limited."""
    for _ in range(2 + ROUNDS // 20):
        for name in LARGE_ATTACKS:
            attacked.measure_stall(name, signed_in=name not in ANONYMOUS_ATTACKS)
    wait_until(
        lambda: attacked.memory() - attacked.memory_at_start < MAX_GROWTH_MB,
        what=f"memory to return from {attacked.memory()} MB to about {attacked.memory_at_start} MB",
    )
    print(
        f"{attacked.memory_at_start} MB, then {attacked.memory()} MB, at most {attacked.memory('VmHWM')} MB"
    )
    assert attacked.memory("VmHWM") - attacked.memory_at_start < MAX_PEAK_MB

"""Clients that stop reading cost a limited amount of memory, and do not affect others."""

import asyncio
import base64
import contextlib
import json
import os
import resource
import socket
import time

import aiohttp
import pytest

from tests.support.site import SERVERS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

UNREAD_CLIENTS = 200
#: For each client: the window of frames without an ack, or the whole response, and as much again for the connection.
MAX_CLIENT_KB = 2 * 256
MAX_RESPONSE_BYTES, MAX_FRAME_BYTES = 256 * 1024, 128 * 1024

CREATE_SESSIONS = """
from django.contrib.auth import get_user_model
from django.test import Client
for name in {names}:
    user, _ = get_user_model().objects.get_or_create(username=name)
    client = Client()
    client.force_login(user)
    print(client.cookies["sessionid"].value)
"""

NOTIFY = """
from django.db import transaction
from django.contrib.auth import get_user_model
from notifications.api import notify
users = list(get_user_model().objects.filter(username__in={names}))
for start in range(0, {count}, 20):
    with transaction.atomic():
        for number in range(start, start + 20):
            notify(users, f"Number {{number}}", body="x" * 1000)
"""


@pytest.fixture(params=SERVERS)
def server(request, site):
    """A site without a worker, served by each server."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.notifications["SOCKETS_PER_USER"] = UNREAD_CLIENTS + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    site.start_web(request.param)
    return site


def get_memory_kb(pid):
    """Return the resident memory in KB."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def open_connection(site, path, session, *headers):
    """Send a GET on a connection for which the kernels buffer little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # The server's kernel buffers many segments, and those of loopback are large.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect(("127.0.0.1", site.port))
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Cookie: sessionid={session}", *headers]
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    return client


def open_unread_socket(site, session):
    """Open a WebSocket that sends hello and never reads again."""
    key = base64.b64encode(os.urandom(16)).decode()
    client = open_connection(
        *(site, "/ws/notifications/", session, f"Origin: {site.url}", "Upgrade: websocket"),
        *("Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"),
    )
    client.recv(1024)  # The response to the handshake, so that hello does not arrive before it.
    hello = b'{"op":"hello","epoch":null,"seq":null}'
    # A masked text frame of less than 126 bytes (RFC 6455, section 5.2); a mask of zeros changes nothing.
    client.sendall(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)
    return client


def open_unread_events(site, session):
    """Open an event stream and read its first event, and no more until read_response()."""
    client = open_connection(site, "/notifications/api/events/", session, "Connection: close")
    head = b""
    while b'"op":"sync"' not in head:
        head += client.recv(1024)
    return client


def read_response(client):
    """Return the number of bytes up to the end of the response."""
    size = 0
    client.settimeout(30)
    while chunk := client.recv(65536):
        size += len(chunk)
    return size


async def follow(site, session, count, has_snapshot):
    """Read frames until `count` notifications have arrived; return their titles in the order of arrival."""
    titles = []
    async with (
        aiohttp.ClientSession(cookies={"sessionid": session}) as http,
        http.ws_connect(f"{site.url}/ws/notifications/", headers={"Origin": site.url}) as ws,
    ):
        await ws.send_str('{"op":"hello","epoch":null,"seq":null}')
        async for message in ws:
            frame = json.loads(message.data)
            if frame.get("ack"):
                await ws.send_str(json.dumps({"op": "ack", "n": frame["n"]}))
            if frame["op"] == "sync" and frame["reset"]:
                has_snapshot.set()
            titles += [item["title"] for item in frame.get("items", ())]
            if len(titles) >= count:
                return titles


def notify_and_measure(site, session, names, count):
    """Notify users while the user "other" reads all frames; return by how many KB the memory of the server grew."""

    async def run():
        has_snapshot = asyncio.Event()
        follower = asyncio.create_task(follow(site, session, count, has_snapshot))
        await asyncio.wait_for(has_snapshot.wait(), 30)
        before = get_memory_kb(site.web.pid)
        code = NOTIFY.format(names=[*names, "other"], count=count)
        command = await asyncio.create_subprocess_exec(
            *[site.web.command[0], "manage.py", "shell", "--no-imports", "-c", code], env=site.env()
        )
        titles = await asyncio.wait_for(follower, 200)
        assert await command.wait() == 0
        return before, titles

    before, titles = asyncio.run(run())
    wait_until(lambda: site.rows("SELECT min(head) FROM notifications_stream") == [(count,)])
    grown = get_memory_kb(site.web.pid) - before
    assert titles == [f"Number {number}" for number in range(count)]
    print(f"{grown / UNREAD_CLIENTS:.0f} KB an unread client")
    return grown


@pytest.mark.timeout(300)
def test_unread_sockets(server):
    """200 sockets of one user never read while 10,000 notifications are sent; another user receives all."""
    unread_session, session = server.python(CREATE_SESSIONS.format(names=["demo", "other"])).split()
    clients = []
    try:
        clients += [open_unread_socket(server, unread_session) for _ in range(UNREAD_CLIENTS)]
        grown = notify_and_measure(server, session, ["demo"], 10_000)
    finally:
        for client in clients:
            client.close()
    assert grown < UNREAD_CLIENTS * MAX_CLIENT_KB, f"{grown} KB for {UNREAD_CLIENTS} unread clients"


@pytest.mark.timeout(300)
def test_unread_events(server):
    """200 unread responses end with the event that passes 256 KiB, and another user receives all."""
    names = [
        f"dead{number}" for number in range(UNREAD_CLIENTS // 4)
    ]  # Four event streams are allowed for each user.
    *unread_sessions, session = server.python(CREATE_SESSIONS.format(names=[*names, "other"])).split()
    clients = []
    try:
        clients += [
            open_unread_events(server, unread_session) for unread_session in unread_sessions for _ in range(4)
        ]
        grown = notify_and_measure(server, session, names, 600)
        sizes = [read_response(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert grown < UNREAD_CLIENTS * MAX_CLIENT_KB, f"{grown} KB for {UNREAD_CLIENTS} unread clients"
    assert min(sizes) > MAX_RESPONSE_BYTES - 1024 and max(sizes) < MAX_RESPONSE_BYTES + MAX_FRAME_BYTES


def test_client_that_acknowledges_without_reading(server):
    """The server keeps no more for it than for one that does not acknowledge: an ack of an unsent frame is refused."""
    [session] = server.python(CREATE_SESSIONS.format(names=["blind"])).split()[-1:]
    server.python(NOTIFY.format(names=["blind"], count=980))
    client, n = open_unread_socket(server, session), 2  # welcome and the snapshot

    def send(**frame):
        text = json.dumps(frame).encode()
        client.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)

    send(op="ack", n=n)
    with contextlib.suppress(ConnectionError):
        # Each sync is answered by about ten frames of 130 kB.
        for _ in range(9):
            send(op="sync", seq=0)
            for _ in range(10):
                time.sleep(0.15)
                n += 1
                send(op="ack", n=n)
    received = 0
    client.settimeout(2)
    with contextlib.suppress(OSError):
        while chunk := client.recv(65536):
            received += len(chunk)
    client.close()
    assert received < 1024 * MAX_CLIENT_KB

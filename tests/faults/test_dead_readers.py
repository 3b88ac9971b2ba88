"""Clients that stop reading cost a bounded amount of memory, and nobody else anything."""

import asyncio
import base64
import json
import os
import resource
import socket

import aiohttp
import pytest

from tests.support.waiting import wait_until

DEAD = 200
#: What one client may cost: the window of frames that were sent and not acked, or the whole response, and as much again
#: for the connection.
BOUND_KB = 2 * 256
RESPONSE, FRAME = 256 * 1024, 128 * 1024

SIGNED_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
for name in {names}:
    user, _ = get_user_model().objects.get_or_create(username=name)
    client = Client()
    client.force_login(user)
    print(client.cookies["sessionid"].value)
"""

TELL = """
from django.db import transaction
from django.contrib.auth import get_user_model
from notifications.api import notify
users = list(get_user_model().objects.filter(username__in={names}))
for start in range(0, {count}, 20):
    with transaction.atomic():
        for number in range(start, start + 20):
            notify(users, f"Number {{number}}", body="x" * 1000)
"""

SERVERS = {
    "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p"],
    "uvicorn": ["-m", "uvicorn", "--port"],
}


@pytest.fixture(params=SERVERS)
def server(request, site):
    """A site without a worker, served by each server."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.notifications["SOCKETS_PER_USER"] = DEAD + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if request.param == "daphne":
        site.start_web()
    else:
        site.web = site.start("web", *SERVERS[request.param], site.port, "asyncsite.asgi:application")
        site.web.wait_until(site._answers, what="the server to answer")
    return site


def memory(pid):
    """Resident memory, KB."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def connect(site, path, session, *headers):
    """A connection for which the kernels hold little, and a GET that it has sent."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # The server's kernel holds many segments, and those of loopback are large.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect(("127.0.0.1", site.port))
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Cookie: sessionid={session}", *headers]
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    return client


def deaf_socket(site, session):
    """A WebSocket that says hello and never reads again."""
    key = base64.b64encode(os.urandom(16)).decode()
    client = connect(
        *(site, "/ws/notifications/", session, f"Origin: {site.url}", "Upgrade: websocket"),
        *("Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"),
    )
    client.recv(1024)  # the handshake, so that hello does not come before it
    hello = b'{"op":"hello","epoch":null,"seq":null}'
    # A masked text frame of less than 126 bytes (RFC 6455, section 5.2); a mask of zeros changes nothing.
    client.sendall(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)
    return client


def deaf_reader(site, session):
    """A client of the stream of events that reads its first words, and no more until `rest()`."""
    client = connect(site, "/notifications/api/events/", session, "Connection: close")
    head = b""
    while b'"op":"sync"' not in head:
        head += client.recv(1024)
    return client


def rest(client):
    """Bytes that were kept for a client, up to the end of the response."""
    size = 0
    client.settimeout(30)
    while some := client.recv(65536):
        size += len(some)
    return size


async def follow(site, session, count, listening):
    """A healthy client: it acks what it is asked to, and returns the titles in the order in which they came."""
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
                listening.set()
            titles += [item["title"] for item in frame.get("items", ())]
            if len(titles) >= count:
                return titles


def tell(site, session, names, count):
    """Notify all of these so often, while "other" follows with this session. Returns the KB by which memory grew."""

    async def run():
        listening = asyncio.Event()
        healthy = asyncio.create_task(follow(site, session, count, listening))
        await asyncio.wait_for(listening.wait(), 30)
        before = memory(site.web.pid)
        code = TELL.format(names=[*names, "other"], count=count)
        telling = await asyncio.create_subprocess_exec(
            *[site.web.command[0], "manage.py", "shell", "--no-imports", "-c", code], env=site.env()
        )
        titles = await asyncio.wait_for(healthy, 200)
        assert await telling.wait() == 0
        return before, titles

    before, titles = asyncio.run(run())
    wait_until(lambda: site.rows("SELECT min(head) FROM notifications_stream") == [(count,)])
    grown = memory(site.web.pid) - before
    assert titles == [f"Number {number}" for number in range(count)]
    print(f"{grown / DEAD:.0f} KB a dead reader")
    return grown


@pytest.mark.timeout(300)
def test_dead_sockets_cost_little_and_delay_nobody(server):
    """200 sockets of the same user never read while 10,000 notifications are sent to them; another user gets all."""
    dead_session, session = server.python(SIGNED_IN.format(names=["demo", "other"])).split()
    clients = []
    try:
        clients += [deaf_socket(server, dead_session) for _ in range(DEAD)]
        grown = tell(server, session, ["demo"], 10_000)
    finally:
        for client in clients:
            client.close()
    assert grown < DEAD * BOUND_KB, f"{grown} KB for {DEAD} dead readers"


@pytest.mark.timeout(300)
def test_dead_readers_of_events_cost_little_and_delay_nobody(server):
    """200 responses that nobody reads end with the event that passes 256 KiB, and another user gets all."""
    names = [f"dead{number}" for number in range(DEAD // 4)]  # four may wait of each user
    *dead_sessions, session = server.python(SIGNED_IN.format(names=[*names, "other"])).split()
    clients = []
    try:
        clients += [deaf_reader(server, dead) for dead in dead_sessions for _ in range(4)]
        grown = tell(server, session, names, 600)
        kept = [rest(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert grown < DEAD * BOUND_KB, f"{grown} KB for {DEAD} dead readers"
    assert min(kept) > RESPONSE - 1024 and max(kept) < RESPONSE + FRAME

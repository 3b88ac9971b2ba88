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

DEAD, TOLD = 200, 10_000
#: What one client may cost: the window of frames that were sent and not acked, and as much again for the connection.
BOUND_KB = 2 * 256

SIGNED_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
for name in ("demo", "other"):
    client = Client()
    client.force_login(get_user_model().objects.get(username=name))
    print(client.cookies["sessionid"].value)
"""

TELL = f"""
from django.db import transaction
from django.contrib.auth import get_user_model
from notifications.api import notify
users = list(get_user_model().objects.filter(username__in=["demo", "other"]))
for start in range(0, {TOLD}, 100):
    with transaction.atomic():
        for number in range(start, start + 100):
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


def deaf_client(site, session):
    """A socket that says hello and never reads again, not even the answer to its handshake."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", site.port))
    key = base64.b64encode(os.urandom(16)).decode()
    client.sendall(
        (
            f"GET /ws/notifications/ HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Origin: {site.url}\r\nCookie: sessionid={session}\r\n\r\n"
        ).encode()
    )
    client.recv(1024)  # the handshake, so that hello does not come before it
    hello = b'{"op":"hello","epoch":null,"seq":null}'
    # A masked text frame of less than 126 bytes (RFC 6455, section 5.2); a mask of zeros changes nothing.
    client.sendall(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)
    return client


async def follow(site, session, told):
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
                told.set()
            titles += [item["title"] for item in frame.get("items", ())]
            if len(titles) >= TOLD:
                return titles


@pytest.mark.timeout(300)
def test_dead_readers_cost_little_and_delay_nobody(server):
    """200 sockets of the same user never read while 10,000 notifications are sent to them; another user gets all."""
    dead_session, session = server.python(SIGNED_IN).split()
    clients = []
    try:
        clients = [deaf_client(server, dead_session) for _ in range(DEAD)]

        async def run():
            listening = asyncio.Event()
            healthy = asyncio.create_task(follow(server, session, listening))
            await asyncio.wait_for(listening.wait(), 30)
            before = memory(server.web.pid)
            telling = await asyncio.create_subprocess_exec(
                *[server.web.command[0], "manage.py", "shell", "--no-imports", "-c", TELL], env=server.env()
            )
            titles = await asyncio.wait_for(healthy, 200)
            assert await telling.wait() == 0
            return before, titles

        before, titles = asyncio.run(run())
        wait_until(lambda: server.rows("SELECT min(head) FROM notifications_stream") == [(TOLD,)])
        grown = memory(server.web.pid) - before
    finally:
        for client in clients:
            client.close()
    assert titles == [f"Number {number}" for number in range(TOLD)]
    assert grown < DEAD * BOUND_KB, f"{grown} KB for {DEAD} dead readers"
    print(f"{grown / DEAD:.0f} KB a dead reader")

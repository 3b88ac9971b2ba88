"""The socket on real servers, with writers in other processes."""

import asyncio
import json
import os
import time

import aiohttp
import pytest

from tests.support.network import listens

SESSION = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import *
user = get_user_model().objects.get(username={name!r})
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(session.session_key)
"""


DAPHNE = ("-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "asyncsite.asgi:application")
UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "asyncsite.asgi:application")


@pytest.fixture(params=[DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def served(request, site):
    pytest.importorskip(request.param[1])
    site.environment["EMBEDDED_WORKER"] = "0"
    site.web = site.start("web", *(part.format(port=site.port) for part in request.param))
    site.web.wait_until(lambda: listens(site.port), what="the server to listen")
    return site


@pytest.fixture
async def browser_session(served):
    """An aiohttp session that is signed in as demo."""
    key = (await asyncio.to_thread(served.python, SESSION.format(name="demo"))).split()[-1]
    async with aiohttp.ClientSession(
        cookies={"sessionid": key}, timeout=aiohttp.ClientTimeout(10)
    ) as session:
        yield session


def open_socket(session, site, path="/ws/notifications/", **headers):
    headers = {"Origin": site.url, **headers}
    return session.ws_connect(f"{site.url}{path}", headers=headers, protocols=["notifications.v1"])


async def hear(socket, op):
    frame = json.loads((await asyncio.wait_for(socket.receive(), 10)).data)
    assert frame["op"] == op, frame
    return frame


async def start(socket, epoch=None, seq=None):
    await socket.send_json({"op": "hello", "epoch": epoch, "seq": seq})
    await hear(socket, "welcome")
    return await hear(socket, "sync")


async def test_a_notification_of_another_process_is_pushed(browser_session, served):
    """A command in another process notifies; the socket hears of it within the position check at the latest."""
    async with open_socket(browser_session, served) as socket:
        assert socket.protocol == "notifications.v1"
        await start(socket)
        await asyncio.to_thread(served.manage, "notify", "demo", "Hello")
        change = await hear(socket, "change")
        assert [item["title"] for item in change["items"]] == ["Hello"]


async def test_who_is_not_signed_in_is_told_so(served):
    """The handshake is accepted, so that a browser can see why: bye 4401, then the close with that code."""
    async with aiohttp.ClientSession() as session, open_socket(session, served) as socket:
        bye = await hear(socket, "bye")
        assert (bye["code"], bye["reason"], bye["reconnect"], bye["after_ms"]) == (
            4401,
            "signed_out",
            False,
            0,
        )
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert socket.close_code == 4401


@pytest.mark.parametrize(
    ("path", "origin"),
    [("/ws/notifications/", "http://evil.example"), ("/ws/elsewhere/", None), ("/", None)],
)
async def test_foreign_pages_and_other_paths_are_refused(browser_session, served, path, origin):
    """403 or 404, and never 500."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_socket(browser_session, served, path, Origin=origin or served.url):
            pass
    assert refused.value.status in (403, 404)


async def test_a_server_that_stops_says_goodbye_or_is_gone(browser_session, served):
    """After SIGTERM Daphne lets a bye through; uvicorn closes first, which needs no bye. The client comes back."""
    async with open_socket(browser_session, served) as socket:
        await start(socket)
        served.web.popen.terminate()
        message = await asyncio.wait_for(socket.receive(), 10)
        if "uvicorn" in served.web.command:
            assert socket.closed
            return
        bye = json.loads(message.data)
        assert (bye["op"], bye["code"], bye["reconnect"]) == ("bye", 4000, True)
        assert 0 < bye["after_ms"] <= 5000


async def test_a_header_of_the_client_does_not_move_the_links(browser_session, served):
    """Daphne would take the root path of the whole site from a request's header."""
    headers = {"Daphne-Root-Path": "//evil.example"}
    async with browser_session.get(
        f"{served.url}/admin/", headers=headers, allow_redirects=False
    ) as response:
        assert "evil" not in response.headers.get("Location", "")
        assert "evil" not in await response.text()
    async with open_socket(browser_session, served, **headers) as socket:
        await start(socket)


WRITER = """
import sys, time
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
for number in range(20):
    before = time.time()
    notify(user, f"note {number}", data={"before": before, "after": time.time()})
    time.sleep(0.05)
"""


@pytest.mark.skipif(
    "postgres" in os.environ.get("DATABASE_URL", ""), reason="rings by the file are SQLite's own"
)
async def test_rings_between_processes_are_quick_on_sqlite(browser_session, served):
    """From a commit in another process to the client in far less than the position check: the median is below 0.1 s."""
    async with open_socket(browser_session, served) as socket:
        await start(socket)
        writer = asyncio.create_task(asyncio.to_thread(served.python, WRITER))
        waits = []
        while len(waits) < 20:
            frame = json.loads((await asyncio.wait_for(socket.receive(), 20)).data)
            if frame.get("ack"):
                await socket.send_json({"op": "ack", "n": frame["n"]})
            waits += [time.time() - item["data"]["before"] for item in frame.get("items", ())]
        await writer
        assert sorted(waits)[10] < 0.1, sorted(waits)

"""WebSockets, event streams and long polls on real servers, with writers in other processes."""

import asyncio
import json
import os
import time

import aiohttp
import pytest

from tests.support.network import is_listening
from tests.support.rings_only import LISTENING

pytestmark = pytest.mark.nightly_names("*[uvicorn]")

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


@pytest.fixture(params=[DAPHNE, pytest.param(UVICORN, marks=pytest.mark.long)], ids=["daphne", "uvicorn"])
def served(request, shared_sites):
    """A running site without a worker. With `rings_only` a test gets a site of its own."""
    pytest.importorskip(request.param[1])

    def start(site):
        site.environment["EMBEDDED_WORKER"] = "0"
        site.web = site.start("web", *(part.format(port=site.port) for part in request.param))
        site.web.wait_until(lambda: is_listening(site.port), what="the server to listen")

    if "rings_only" in request.fixturenames:
        site = request.getfixturevalue("site")
        start(site)
        yield site
    else:
        with shared_sites.running(request, f"{request.param[1]} without a worker", start) as site:
            yield site


@pytest.fixture
def rings_only(site):
    """The server finds changes by rings only, without polling. Request this fixture before `served`."""
    site.change("tests.support.rings_only")


@pytest.fixture
async def session_key(served):
    """The key of a session in which demo is signed in."""
    return (await asyncio.to_thread(served.python, SESSION.format(name="demo"))).split()[-1]


@pytest.fixture
async def browser_session(session_key):
    """An aiohttp session that is signed in as demo."""
    async with aiohttp.ClientSession(
        cookies={"sessionid": session_key}, timeout=aiohttp.ClientTimeout(90)
    ) as session:
        yield session


EVENTS = "/notifications/api/events/"
SYNC = "/notifications/api/sync/"


class Events:
    """The events of a response: receive() returns the data of the next one, None at the end."""

    def __init__(self, response):
        assert (response.status, response.content_type) == (200, "text/event-stream")
        self.response = response
        self.size = 0
        self.id = None

    async def receive(self, op=None):
        data = None
        async with asyncio.timeout(40):
            async for line in self.response.content:
                self.size += len(line)
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    self.id = value
                elif name == "data":
                    data = json.loads(value)
                elif not name and data:
                    assert op is None or data["op"] == op, data
                    return data
        assert op is None, "the response has ended"
        return None


def open_socket(session, site, path="/ws/notifications/", **headers):
    headers = {"Origin": site.url, **headers}
    return session.ws_connect(f"{site.url}{path}", headers=headers, protocols=["notifications.v1"])


async def receive_frame(socket, op):
    frame = json.loads((await asyncio.wait_for(socket.receive(), 40)).data)
    assert frame["op"] == op, frame
    return frame


async def start(socket, epoch=None, seq=None):
    await socket.send_json({"op": "hello", "epoch": epoch, "seq": seq})
    await receive_frame(socket, "welcome")
    return await receive_frame(socket, "sync")


@pytest.mark.smoke
async def test_notification_of_another_process_is_pushed(browser_session, served):
    """A notification that a command creates in another process is sent to the socket."""
    async with open_socket(browser_session, served) as socket:
        assert socket.protocol == "notifications.v1"
        await start(socket)
        await asyncio.to_thread(served.manage, "notify", "demo", "Hello")
        change = await receive_frame(socket, "change")
        assert [item["title"] for item in change["items"]] == ["Hello"]


async def test_anonymous_socket_gets_4401(served):
    """The handshake is accepted and closed with 4401: browsers do not expose why a handshake was refused."""
    async with aiohttp.ClientSession() as session, open_socket(session, served) as socket:
        bye = await receive_frame(socket, "bye")
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
    """Handshakes from foreign origins and on other paths are refused with 403 or 404."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_socket(browser_session, served, path, Origin=origin or served.url):
            pass
    assert refused.value.status in (403, 404)


@pytest.mark.smoke
async def test_server_shutdown_sends_bye(browser_session, served):
    """After SIGTERM sockets and events get bye 4000, a long poll gets its response, and the process exits."""
    async with (
        browser_session.get(f"{served.url}{EVENTS}") as response,
        open_socket(browser_session, served) as socket,
        open_socket(browser_session, served) as second,
    ):
        await start(socket)
        await start(second)
        events = Events(response)
        etag = (await browser_session.get(f"{served.url}{SYNC}")).headers["ETag"]
        headers = {"Prefer": "wait=20", "If-None-Match": etag}
        waiting = asyncio.create_task(browser_session.get(f"{served.url}{SYNC}", headers=headers))
        await events.receive("sync")
        await asyncio.sleep(1.5)  # nothing signals to this process that the poll has begun to wait
        before = time.monotonic()
        served.web.popen.terminate()
        for closing in (socket, second):
            bye = await receive_frame(closing, "bye")
            assert (bye["code"], bye["reconnect"]) == (4000, True)
            assert 0 < bye["after_ms"] <= 5000
            await closing.receive()
            assert closing.close_code == 4000
        assert (await events.receive("bye"))["code"] == 4000
        assert await events.receive() is None
        assert (await waiting).status == 304
        await asyncio.to_thread(served.web.popen.wait, 60)
        assert time.monotonic() - before < 15  # less than the poll's 20 seconds


async def test_root_path_header_does_not_change_links(browser_session, served):
    """The header Daphne-Root-Path, from which Daphne would set the root path, does not change links."""
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
    notify(user, f"note {number}")
    time.sleep(0.05)
"""


@pytest.mark.skipif("postgres" in os.environ.get("DATABASE_URL", ""), reason="needs a SQLite file")
async def test_rings_between_processes_on_sqlite(rings_only, browser_session, served):
    """On SQLite, changes of another process reach the client by rings, without polling."""
    async with open_socket(browser_session, served) as socket:
        await start(socket)
        await asyncio.to_thread(served.web.wait_for_line, LISTENING)
        writer = asyncio.create_task(asyncio.to_thread(served.python, WRITER))
        titles = []
        while len(titles) < 20:
            frame = json.loads((await asyncio.wait_for(socket.receive(), 60)).data)
            if frame.get("ack"):
                await socket.send_json({"op": "ack", "n": frame["n"]})
            titles += [item["title"] for item in frame.get("items", ())]
        await writer
        assert titles == [f"note {number}" for number in range(20)]


@pytest.mark.smoke
async def test_event_streams_and_polls_get_changes_of_other_processes(browser_session, served):
    """A notification of another process is sent as an event and ends a long poll; Last-Event-ID resumes after it."""
    async with browser_session.get(f"{served.url}{EVENTS}") as response:
        events = Events(response)
        await events.receive("sync")
        etag = (await browser_session.get(f"{served.url}{SYNC}")).headers["ETag"]
        headers = {"Prefer": "wait=20", "If-None-Match": etag}
        poll = asyncio.create_task(browser_session.get(f"{served.url}{SYNC}", headers=headers))
        await asyncio.to_thread(served.manage, "notify", "demo", "Hello")
        change = await events.receive("change")
        assert [item["title"] for item in change["items"]] == ["Hello"]
        frame = await (await poll).json()
        assert frame["seq"] == change["seq"]
    # The stream resumes after the last event.
    await asyncio.to_thread(served.manage, "notify", "demo", "meanwhile")
    async with browser_session.get(f"{served.url}{EVENTS}", headers={"Last-Event-ID": events.id}) as response:
        sync = await Events(response).receive("sync")
        assert (sync["prev"], [item["title"] for item in sync["items"]]) == (change["seq"], ["meanwhile"])


async def test_anonymous_event_stream_gets_204(served):
    """An anonymous event stream gets 204, after which an EventSource does not reconnect."""
    async with aiohttp.ClientSession() as session, session.get(f"{served.url}{EVENTS}") as response:
        assert response.status == 204


async def test_disconnected_client_frees_its_slot(browser_session, served):
    """A fifth long poll is refused, and the four waiting ones free their slots when their clients disconnect."""
    headers = {"Prefer": "wait=20", "If-None-Match": "*"}
    for _ in range(3):
        polls = {
            asyncio.create_task(browser_session.get(f"{served.url}{SYNC}", headers=headers)) for _ in range(5)
        }
        refused, polls = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status for task in refused] == [429]
        for poll in polls:
            poll.cancel()
        await asyncio.wait(polls)
        await wait_for_free_slots(browser_session, served)


async def wait_for_free_slots(session, served):
    """Wait until four event streams are accepted at once."""
    async with asyncio.timeout(40):
        while True:
            responses = [await session.get(f"{served.url}{EVENTS}") for _ in range(4)]
            statuses = [response.status for response in responses]
            for response in responses:
                response.close()
            if statuses == [200] * 4:
                return
            assert set(statuses) <= {200, 429}


async def test_memory_of_stuck_reader_is_bounded(browser_session, served):
    """The response to a client that does not read ends at the size limit, and the client resumes after it."""
    async with browser_session.get(f"{served.url}{EVENTS}") as response:
        events = Events(response)
        await events.receive("sync")
        response.connection.transport.pause_reading()
        await asyncio.to_thread(served.python, FLOOD)
        response.connection.transport.resume_reading()
        while await events.receive():
            pass
        assert 256 * 1024 < events.size < (256 + 128) * 1024
    async with browser_session.get(f"{served.url}{EVENTS}", headers={"Last-Event-ID": events.id}) as response:
        epoch, _, seq = events.id.rpartition(":")
        sync = await Events(response).receive("sync")
        assert (sync["epoch"], sync["prev"], sync["reset"]) == (epoch, int(seq), False)


FLOOD = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
for number in range(400):
    notify(user, f"note {number}", body="b" * 2000)
"""


async def test_waiting_requests_use_no_connection_and_no_thread(served):
    """Twelve waiting requests of three users add no thread and no database connection each."""
    async with aiohttp.ClientSession() as session:
        headers_of, streams = {}, []
        for name in ("demo", "other", "admin"):
            key = (await asyncio.to_thread(served.python, SESSION.format(name=name))).split()[-1]
            headers_of[name] = {"Cookie": f"sessionid={key}"}

        async def wait(name):
            stream = await session.get(f"{served.url}{EVENTS}", headers=headers_of[name])
            streams.append(stream)
            await Events(stream).receive("sync")
            return asyncio.create_task(
                session.get(
                    f"{served.url}{SYNC}",
                    headers={**headers_of[name], "Prefer": "wait=20", "If-None-Match": "*"},
                )
            )

        polls = [await wait("demo")]
        await wait_until_steady(served)
        before = count_threads_and_connections(served)
        for name in ("demo", "other", "other", "admin", "admin"):
            polls.append(await wait(name))
        for name in headers_of:
            refused = await session.get(
                f"{served.url}{SYNC}", headers={**headers_of[name], "Prefer": "wait=1", "If-None-Match": "*"}
            )
            assert refused.status == 429
        await wait_until_steady(served)
        threads, connections = count_threads_and_connections(served)
        # The pools of the hub and of the server may each have started threads since.
        assert threads <= before[0] + 3
        assert connections <= before[1] + 3
        assert not any(poll.done() for poll in polls)
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        for stream in streams:
            stream.close()


def count_threads_and_connections(served):
    """Return the number of the server's threads and of its connections to the database."""
    process = f"/proc/{served.web.pid}"
    if served.database_url.startswith("sqlite"):
        name = served.database_url.removeprefix("sqlite:///")
        links = [os.path.realpath(f"{process}/fd/{fd}") for fd in os.listdir(f"{process}/fd")]
        return len(os.listdir(f"{process}/task")), links.count(os.path.realpath(name))
    rows = served.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return len(os.listdir(f"{process}/task")), rows[0][0]


async def wait_until_steady(served):
    """Wait until the numbers of threads and connections have not changed for a second."""
    last, since = None, time.monotonic()
    async with asyncio.timeout(60):
        while time.monotonic() - since < 1:
            now = await asyncio.to_thread(count_threads_and_connections, served)
            if now != last:
                last, since = now, time.monotonic()
            await asyncio.sleep(0.1)


async def test_sign_out_closes_every_transport_within_5_seconds(browser_session, session_key, served):
    """After a sign-out in another process sockets and events get 4401, a long poll 401; another session stays open."""
    key = (await asyncio.to_thread(served.python, SESSION.format(name="demo"))).split()[-1]
    async with (
        aiohttp.ClientSession(cookies={"sessionid": key}) as other_session,
        open_socket(browser_session, served) as socket,
        open_socket(other_session, served) as other_socket,
        browser_session.get(f"{served.url}{EVENTS}") as response,
    ):
        await start(socket)
        await start(other_socket)
        events = Events(response)
        await events.receive("sync")
        headers = {"Prefer": "wait=20", "If-None-Match": "*"}
        poll = asyncio.create_task(browser_session.get(f"{served.url}{SYNC}", headers=headers))
        await asyncio.to_thread(served.python, SIGN_OUT.format(key=session_key))
        before = time.monotonic()
        assert (await receive_frame(socket, "bye"))["code"] == 4401
        assert (await events.receive("bye"))["code"] == 4401
        assert await events.receive() is None
        assert (await poll).status == 401
        assert time.monotonic() - before < 15  # less than the poll's 20 seconds
        assert (await browser_session.get(f"{served.url}{EVENTS}")).status == 204
        await other_socket.send_json({"op": "ping"})
        await receive_frame(other_socket, "beat")


SIGN_OUT = """
from django.test import Client
client = Client()
client.cookies["sessionid"] = {key!r}
client.logout()
"""

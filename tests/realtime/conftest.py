"""A client of the WebSocket in memory, and users with sessions."""

import asyncio
import json
from contextlib import asynccontextmanager
from random import randrange

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client

from notifications.realtime import hub
from notifications.realtime.transports import websocket
from notifications.realtime.transports.consumers import notifications_socket

ORIGIN = "http://testserver"
#: Seconds after which a frame that should come is missed.
PATIENCE = 40


async def in_thread(work, *args, **kwargs):
    """Run database work in a thread that keeps no connection, and return what it returns."""

    def run():
        try:
            return work(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


@pytest.fixture(autouse=True)
def first_ask(monkeypatch):
    """The first ack is asked for with frame 16; first_ask(n): with frame n, first_ask(None): at random."""

    def choose(n):
        chosen = randrange if n is None else lambda stop: min(n, stop) - 1
        monkeypatch.setattr(websocket, "randrange", chosen)

    choose(16)
    return choose


@pytest.fixture
async def connect(transactional_db):
    """connect(user, **options) opens a Socket; all are ended after the test, and the hub with them."""
    tasks = []

    async def open_socket(user=None, cookie=None, **options):
        if user is not None:
            cookie = await in_thread(sign_in, user)
        socket = Socket(cookie, **options)
        tasks.append(socket.task)
        await socket.handshake()
        return socket

    yield open_socket
    await hub.close_current_hub()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def ask(transactional_db):
    """ask(path, user, **options) sends a Request below the API; all are ended after the test, and the hub with them."""
    from tests.realtime.requests import Request

    requests = []

    async def send(path, user=None, cookie=None, **options):
        if user is not None:
            cookie = await in_thread(sign_in, user)
        requests.append(Request(path, cookie, **options))
        return requests[-1]

    yield send
    await hub.close_current_hub()
    for request in requests:
        request.hang_up()
        request.unblocked.set()
    await asyncio.gather(*(request.task for request in requests), return_exceptions=True)
    await sync_to_async(connections.close_all)()


@pytest.fixture
async def user(transactional_db):
    return await in_thread(get_user_model().objects.create_user, "ada", password="ada")


@pytest.fixture
async def other(transactional_db):
    return await in_thread(get_user_model().objects.create_user, "bob", password="bob")


def sign_in(user):
    """Return a Cookie header of a new session of the user."""
    client = Client()
    client.force_login(user)
    return (
        f"{django_settings.SESSION_COOKIE_NAME}={client.cookies[django_settings.SESSION_COOKIE_NAME].value}"
    )


class Socket:
    """A WebSocket in memory: say(op, …), hear() the next frame, hear_bye()."""

    def __init__(
        self,
        cookie=None,
        *,
        origin=ORIGIN,
        host=b"testserver",
        headers=(),
        subprotocols=(),
        scope_user=None,
        app=notifications_socket,
        **scope,
    ):
        self.cookie = cookie
        self.incoming, self.outgoing = asyncio.Queue(), asyncio.Queue()
        self.raw = []  # texts of all frames heard
        self.accepted = None
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        headers = [(b"host", host), *headers]
        if origin is not None:
            headers.append((b"origin", origin.encode("latin-1")))
        if cookie:
            headers.append((b"cookie", cookie.encode()))
        scope = {
            "type": "websocket",
            "path": "/ws/notifications/",
            "root_path": "",
            "scheme": "ws",
            "headers": headers,
            "subprotocols": list(subprotocols),
            **scope,
        }
        if scope_user is not None:
            scope["user"] = scope_user
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self.incoming.get, self._send))

    async def _send(self, message):
        await self.unblocked.wait()
        self.outgoing.put_nowait(message)
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    async def handshake(self):
        message = await self._next()
        self.accepted = message["type"] == "websocket.accept"
        self.subprotocol = message.get("subprotocol")

    def say(self, op, **values):
        self.say_text(json.dumps({"op": op, **values}))

    def say_text(self, text):
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, data):
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    async def hear(self, op=None):
        """The next frame, which must have this op."""
        message = await self._next()
        assert message["type"] == "websocket.send", message
        self.raw.append(message["text"])
        frame = json.loads(message["text"])
        assert op is None or frame["op"] == op, frame
        return frame

    async def hear_bye(self):
        """The bye that comes next; the close with its code must follow, and nothing more."""
        bye = await self.hear("bye")
        assert await self._next() == {"type": "websocket.close", "code": bye["code"]}
        await self.ended()
        assert self.outgoing.empty()
        return bye

    async def hears_nothing_before_a_beat(self):
        """Nothing else was sent before the answer to a ping."""
        self.say("ping")
        return await self.hear("beat")

    async def start(self, epoch=None, seq=None):
        """Say hello and return the sync frame that ends the catch-up."""
        self.say("hello", epoch=epoch, seq=seq)
        await self.hear("welcome")
        while (frame := await self.hear("sync"))["more"]:
            self.ack_if_asked(frame)
        return frame

    def ack_if_asked(self, frame):
        if frame.get("ack"):
            self.say("ack", n=frame["n"])

    def hang_up(self):
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def ended(self):
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)

    async def _next(self):
        return await asyncio.wait_for(self.outgoing.get(), PATIENCE)


@asynccontextmanager
async def blocked(socket):
    """The server cannot send to this socket, as if nobody read at the other end."""
    socket.unblocked.clear()
    yield
    socket.unblocked.set()


async def until(condition):
    """Wait until a condition of this loop holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (the condition is anything, there is no event of it)
            await asyncio.sleep(0.005)

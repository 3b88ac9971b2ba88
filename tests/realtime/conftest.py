"""An in-memory WebSocket client, a factory of in-memory requests, and sessions of users."""

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial
from random import randrange

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import connections
from django.db.backends.signals import connection_created
from django.test import Client

from notifications.realtime import hub
from notifications.realtime.transports import websocket
from notifications.routing import websocket_urlpatterns

ORIGIN = "http://testserver"
#: Seconds to wait for an expected frame.
TIMEOUT_SECONDS = 40


async def in_thread(function, *args, **kwargs):
    """Call a function in a thread, close the thread's connections, and return the result."""

    def run():
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


@pytest.fixture(autouse=True)
def set_first_ack(monkeypatch):
    """set_first_ack(n): the first ack is requested with frame n, by default 16; None: with a random one."""

    def patch(n):
        choose = randrange if n is None else lambda stop: min(n, stop) - 1
        monkeypatch.setattr(websocket, "randrange", choose)

    patch(16)
    return patch


@pytest.fixture
def set_ticks(monkeypatch):
    """set_ticks(POSITION_CHECK=1) sets the ticks of the hub between two such checks."""
    return lambda **ticks: [monkeypatch.setattr(hub, f"{name}_TICKS", n) for name, n in ticks.items()]


@pytest.fixture
def wrap_statements(transactional_db):
    """wrap_statements(wrapper) is Django's execute_wrapper() of the connections that all threads open after this."""
    wrappers = []

    def wrap(execute, *args):
        for wrapper in wrappers:
            execute = partial(wrapper, execute)
        return execute(*args)

    def handle_connection(connection, **kwargs):
        if wrap not in connection.execute_wrappers:
            connection.execute_wrappers.append(wrap)

    connection_created.connect(handle_connection)
    yield wrappers.append
    connection_created.disconnect(handle_connection)
    wrappers.clear()


@pytest.fixture
async def connect(transactional_db):
    """connect(user, **options) opens a Socket. All sockets and the hub are closed after the test."""
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
async def send_request(transactional_db):
    """send_request(path, user, **options) sends a Request below the API. Requests and hub are closed after the test."""
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
        request.disconnect()
        request.unblocked.set()
    await asyncio.gather(*(request.task for request in requests), return_exceptions=True)
    await sync_to_async(connections.close_all)()


def sign_in(user):
    """Return a Cookie header of a new session of the user."""
    client = Client()
    client.force_login(user)
    return (
        f"{django_settings.SESSION_COOKIE_NAME}={client.cookies[django_settings.SESSION_COOKIE_NAME].value}"
    )


class Socket:
    """An in-memory WebSocket: `send_frame(op, …)`, `receive()` the next frame, `receive_bye()`."""

    def __init__(
        self,
        cookie=None,
        *,
        origin=ORIGIN,
        host=b"testserver",
        headers=(),
        subprotocols=(),
        scope_user=None,
        app=websocket_urlpatterns[0].callback,
        **scope,
    ):
        self.cookie = cookie
        self.incoming, self.outgoing = asyncio.Queue(), asyncio.Queue()
        self.raw = []  # texts of all received frames
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

    def send_frame(self, op, **values):
        self.send_text(json.dumps({"op": op, **values}))

    def send_text(self, text):
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def send_bytes(self, data):
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    async def receive(self, op=None):
        """Return the next frame, which must have this op."""
        message = await self._next()
        assert message["type"] == "websocket.send", message
        self.raw.append(message["text"])
        frame = json.loads(message["text"])
        assert op is None or frame["op"] == op, frame
        return frame

    async def receive_bye(self):
        """Return the next frame, a bye. The close with its code must follow, and nothing else."""
        bye = await self.receive("bye")
        assert await self._next() == {"type": "websocket.close", "code": bye["code"]}
        await self.wait_until_closed()
        assert self.outgoing.empty()
        return bye

    async def receive_beat_only(self):
        """Assert that nothing is sent before the answer to a ping."""
        self.send_frame("ping")
        return await self.receive("beat")

    async def start(self, epoch=None, seq=None):
        """Send hello and return the sync frame that completes the catch-up."""
        self.send_frame("hello", epoch=epoch, seq=seq)
        await self.receive("welcome")
        while (frame := await self.receive("sync"))["more"]:
            self.ack_if_requested(frame)
        return frame

    def ack_if_requested(self, frame):
        if frame.get("ack"):
            self.send_frame("ack", n=frame["n"])

    def disconnect(self):
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def wait_until_closed(self):
        await asyncio.wait_for(asyncio.shield(self.task), TIMEOUT_SECONDS)

    async def _next(self):
        return await asyncio.wait_for(self.outgoing.get(), TIMEOUT_SECONDS)


@asynccontextmanager
async def block_sends(client):
    """Block the server's sends to this socket or request, as a client that does not read does."""
    client.unblocked.clear()
    yield
    client.unblocked.set()


async def until(condition):
    """Wait until ``condition()`` is true."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110 (the condition is arbitrary; no event is set when it becomes true)
            await asyncio.sleep(0.005)

"""Direct writes to WebSockets on real Daphne, and the adapter on an unsupported version of it."""

import asyncio
import json
import os
import sys
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import aiohttp
import pytest

from notifications.realtime import servers
from notifications.realtime.servers import daphne
from notifications.realtime.servers.websocket_frames import encode_text_frame
from tests.support.network import free_port, is_listening
from tests.support.processes import Process

#: The sizes of the texts: at the limits of the frame's length fields, and together more than the kernel buffers.
SIZES = (1, 125, 126, 65_535, 65_536, 1_000_000, 10) * 16


def text(number):
    return f"{number}:ä" + "x" * SIZES[number]


def with_writer(writer_of):
    """Return an ASGI application that sends numbered texts, every second one by a direct write."""

    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        write = writer_of(send)
        await send({"type": "websocket.send", "text": str(write is not None)})
        await receive()  # the client does not read from now on
        for number in range(len(SIZES)):
            if not (write and number % 2 and write(encode_text_frame(text(number).encode()))):
                await send({"type": "websocket.send", "text": text(number)})
        await (
            receive()
        )  # the client has read all; after a close Daphne would drop unread data within a second
        await send({"type": "websocket.close", "code": 4000})
        await receive()
        # After the close, a direct write is refused and raises no error.
        assert not (write and write(encode_text_frame(b"too late")))

    return application


application = with_writer(daphne.writer_of)


async def report_options(scope, receive, send):
    """Send which options the Daphne connection has copied."""
    from daphne.ws_protocol import WebSocketProtocol

    await receive()
    daphne.share_options(send)
    (protocol,) = send.args
    names = WebSocketProtocol.CONFIG_ATTRS
    report = {
        "copied": [name for name in names if name in vars(protocol)],
        "other": [name for name in names if getattr(protocol, name) != getattr(protocol.factory, name)],
        "formatted": len(protocol.CONFIG_ATTRS),  # autobahn formats these for its debug log
    }
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(report)})
    await receive()


@contextmanager
def serve(tmp_path, *command):
    """Yield the port of a server, and its process."""
    port = free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in command)]
    process = Process(command, log=tmp_path / "server.log", env=dict(os.environ))
    process.wait_until(lambda: is_listening(port), what="the server to listen")
    try:
        yield port, process
    finally:
        process.stop()


DAPHNE = ("daphne", "-b", "127.0.0.1", "-p", "{port}")


@pytest.mark.parametrize("compress", [0, 15], ids=["plain", "compressed"])
async def test_direct_and_ordinary_writes_stay_in_order(tmp_path, compress):
    """Daphne compresses nothing."""
    with serve(tmp_path, *DAPHNE, f"{__name__}:application") as served:
        await read_late(*served, compress=compress, is_direct=True)


async def read_late(port, process, *, compress, is_direct):
    """A client that reads late gets all texts, complete and in order, then the close."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{port}/", max_msg_size=0, compress=compress) as socket,
    ):
        assert await socket.receive_str(timeout=10) == str(is_direct)
        await socket.send_str("go")
        await asyncio.sleep(0.5)
        for number in range(len(SIZES)):
            assert await socket.receive_str(timeout=30) == text(number), process.output
        await socket.send_str("all")
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4000
    assert "Error" not in process.output


@pytest.mark.parametrize("verbosity", [1, 2])
async def test_connections_share_options(tmp_path, verbosity):
    """Connections after the first copy no options and have the same values; with Twisted's debug log all copy them."""
    reports, options = [], ("-v", str(verbosity))
    with serve(tmp_path, *DAPHNE, *options, f"{__name__}:report_options") as (port, _):
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.ws_connect(f"ws://127.0.0.1:{port}/", compress=15) as socket:
                    reports.append(await socket.receive_json(timeout=10))
    copied = [len(report["copied"]) for report in reports]
    assert copied[0] > 0
    assert copied[1:] == ([0, 0] if verbosity == 1 else copied[:1] * 2)
    assert [report["formatted"] for report in reports] == copied
    assert [report["other"] for report in reports] == [[]] * 3


HELLO = b"\x81\x05Hello"


class Transport:
    """The part of Twisted's TCP transport that the writer uses, with ``changes`` to its attributes."""

    __module__ = "twisted.internet.tcp"
    TLS = disconnecting = False
    connected = True
    dataBuffer = b""
    kernel_takes = 10**6

    def __init__(self, **changes):
        self._tempDataBuffer = []
        self.sent, self.buffered = b"", b""
        self.__dict__.update(changes)

        self.socket = SimpleNamespace(send=self.send)

    def send(self, data):
        if isinstance(self.kernel_takes, Exception):
            raise self.kernel_takes
        self.sent += data[: self.kernel_takes]
        return len(data[: self.kernel_takes])

    def write(self, data):
        self.buffered += data


class Protocol:
    """The part of autobahn's protocol of an open WebSocket that the writer uses, with ``changes``."""

    STATE_OPEN = state = 3
    _perMessageCompress = None
    send_queue = ()

    def __init__(self, transport, **changes):
        self.transport = transport
        self.__dict__.update(changes)


class Server:
    """Stands in for Daphne's server."""

    async def handle_reply(self, protocol, message):
        raise AssertionError("not called")


Server.__module__ = "daphne.server"


def make_writer(transport, **changes):
    return daphne.writer_of(partial(Server().handle_reply, Protocol(transport, **changes)))


@pytest.mark.parametrize(("takes", "sent"), [(4, 4), (BlockingIOError(), 0)], ids=str)
def test_twisted_writes_what_the_kernel_did_not_take(takes, sent):
    """Bytes that the kernel did not accept are passed to Twisted, without repeating any."""
    transport = Transport(kernel_takes=takes)
    assert make_writer(transport)(HELLO) is True
    assert (transport.sent, transport.buffered) == (HELLO[:sent], HELLO[sent:])


@pytest.mark.parametrize(
    "changes",
    [
        {"_tempDataBuffer": [b"before"]},
        {"dataBuffer": b"before"},
        {"disconnecting": True},
        {"connected": False},
        {"kernel_takes": ConnectionError()},
    ],
    ids=str,
)
def test_direct_write_is_refused(changes):
    """A direct write is refused while data is buffered, which it would overtake, or if the connection is lost."""
    transport = Transport()
    write = make_writer(transport)
    transport.__dict__.update(changes)
    assert write(HELLO) is False
    assert (transport.sent, transport.buffered) == (b"", b"")


def test_nothing_is_written_while_closing():
    """A direct write is refused after the WebSocket's close has begun."""
    transport = Transport()
    write = make_writer(transport, state=2)
    assert write(HELLO) is False
    assert transport.sent == b""


@pytest.mark.parametrize(
    ("of_transport", "of_protocol"),
    [
        ({"TLS": True}, {}),
        ({}, {"_perMessageCompress": object()}),
        ({"__class__": object}, {}),
    ],
    ids=["tls", "compressed", "another transport"],
)
def test_no_direct_writes(of_transport, of_protocol):
    """There are no direct writes with TLS, compression or an unknown transport, which must process each message."""
    transport = Transport(**{key: value for key, value in of_transport.items() if key != "__class__"})
    if "__class__" in of_transport:
        transport = type("Elsewhere", (Transport,), {"__module__": "elsewhere"})()
    assert make_writer(transport, **of_protocol) is None


def test_lost_connection_is_not_a_fallback(caplog):
    """A client that disconnects in the handshake, whose socket Twisted deletes, is not logged as a fallback."""
    servers.log_fallback.cache_clear()
    transport = Transport(connected=False)
    del transport.socket
    assert make_writer(transport) is None
    assert caplog.messages == []


def test_missing_attribute_is_logged(caplog):
    """If Twisted's transport lacks a private attribute, there are no direct writes, and the log names it."""
    assert daphne.writer_of(make_writer) is None
    servers.log_fallback.cache_clear()
    transport = Transport()
    del transport._tempDataBuffer
    assert make_writer(transport) is None
    (line,) = caplog.messages
    assert line.startswith("WebSocket frames are not written directly on this Daphne: AttributeError(")
    assert "_tempDataBuffer" in line


@pytest.mark.parametrize(
    ("verbosity", "options"),
    [(1, {}), (1, {"a": 1}), (None, {"a": 1, "b": 2})],
    ids=["none", "one", "server"],
)
def test_options_are_copied_on_another_daphne(verbosity, options):
    """If Daphne lacks an option or attribute, its protocol class is not replaced, so each connection copies options."""
    protocol = type("WebSocketProtocol", (), {"CONFIG_ATTRS": ("a", "b"), "__module__": "daphne.ws_protocol"})
    server = Server()
    server.ws_factory = SimpleNamespace(protocol=protocol, **options)
    if verbosity is not None:
        server.verbosity = verbosity
    daphne.share_options(partial(server.handle_reply, None))
    assert server.ws_factory.protocol is protocol
    del server.ws_factory.protocol
    daphne.share_options(partial(server.handle_reply, None))
    daphne.share_options(lambda message: None)


async def test_refused_handshake_shares_options_too():
    """A handshake that is refused also makes later connections share options."""
    from notifications.routing import websocket_urlpatterns  # a server of this module has not set up Django

    replies = []

    class Refusing(Server):
        __module__ = "daphne.server"
        verbosity = 1

        async def handle_reply(self, protocol, message):
            replies.append(message["type"])

    async def receive():
        return {"type": "websocket.connect"}

    protocol = type("WebSocketProtocol", (), {"CONFIG_ATTRS": ("a",), "__module__": "daphne.ws_protocol"})
    server = Refusing()
    server.ws_factory = SimpleNamespace(protocol=protocol, a=1)
    scope = {"type": "websocket", "path": "/ws/notifications/", "headers": []}
    await websocket_urlpatterns[0].callback(scope, receive, partial(server.handle_reply, None))
    assert replies == ["websocket.close"]
    assert (server.ws_factory.protocol.CONFIG_ATTRS, server.ws_factory.protocol.a) == ((), 1)

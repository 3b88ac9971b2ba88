"""Direct writes to uvicorn's WebSockets, which are not used if uvicorn's send() would send other bytes."""

import asyncio
import logging

import pytest

from notifications.realtime import servers
from notifications.realtime.servers import uvicorn
from tests.realtime.servers.test_daphne import read_late, serve, with_writer

websockets_sansio_impl = pytest.importorskip("uvicorn.protocols.websockets.websockets_sansio_impl")
UvicornWebSocket = pytest.importorskip("notifications.realtime.servers.uvicorn_websocket").UvicornWebSocket
Real = websockets_sansio_impl.WebSocketsSansIOProtocol


application = with_writer(uvicorn.writer_of)


@pytest.mark.parametrize("compress", [0, 15], ids=["plain", "compressed"])
async def test_direct_and_ordinary_writes_stay_in_order(tmp_path, compress):
    """With compression, none is written directly."""
    with serve(tmp_path, "uvicorn", "--port", "{port}", f"{__name__}:application") as served:
        await read_late(*served, compress=compress, is_direct=not compress)


def build_class(**changes):
    """Return a class with uvicorn's name that differs by ``changes``."""
    names = {"__module__": Real.__module__, "__qualname__": Real.__qualname__, **changes}
    return type(Real.__name__, (Real,), names)


async def send_nothing(self, message):
    pass


async def wait(self, message):
    await asyncio.sleep(0)


async def send_other_bytes(self, message):
    self.transport.write(b"\x81" + message["text"].encode())


async def use_missing_attribute(self, message):
    await Real.send(self, {**message, "type": self.kind_of_message})


@pytest.mark.parametrize("protocol_class", [Real, UvicornWebSocket])
def test_the_installed_uvicorn_is_supported(protocol_class):
    """Direct writes and uvicorn's send() send the same bytes, also on the class that limits frames."""
    assert uvicorn.can_write_directly(protocol_class)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"send": send_nothing}, "a text of 1 bytes is sent as b'', not as b'\\x81\\x01x'."),
        ({"send": send_other_bytes}, "a text of 1 bytes is sent as b'\\x81x', not as b'\\x81\\x01x'."),
        ({"send": wait}, "send() waits although the transport takes everything."),
        ({"send": use_missing_attribute}, "no attribute 'kind_of_message'"),
        (
            {"__qualname__": "Other"},
            "its protocol is uvicorn.protocols.websockets.websockets_sansio_impl.Other",
        ),
    ],
    ids=["nothing", "other bytes", "waiting", "missing attribute", "another class"],
)
def test_another_uvicorn_is_not_supported(caplog, changes, problem):
    """An unsupported uvicorn is logged once, with the reason."""
    servers.log_fallback.cache_clear()
    changed = build_class(**changes)
    with caplog.at_level(logging.WARNING):
        assert not uvicorn.can_write_directly(changed)
        assert not uvicorn.can_write_directly(changed)
    (line,) = caplog.messages
    assert line.startswith("WebSocket frames are not written directly on this uvicorn: ")
    assert problem in line


class Transport:
    """The transport of an open connection."""

    def __init__(self, *, buffered=0, closing=False):
        self.buffered, self.closing, self.sent = buffered, closing, []

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return self.buffered

    def write(self, data):
        self.sent.append(data)


def build_protocol(transport, protocol_class=Real, extensions=()):
    protocol = protocol_class.__new__(protocol_class)
    protocol.transport, protocol.close_sent = transport, False
    protocol.conn = type("Connection", (), {"extensions": list(extensions)})()
    return protocol


def test_frame_is_not_copied():
    """A frame is passed to the transport without a copy, so that all connections share one object."""
    frame, transport = b"\x81\x05Hello", Transport()
    assert uvicorn.writer_of(build_protocol(transport).send)(frame) is True
    assert transport.sent[0] is frame


@pytest.mark.parametrize("state", [{"buffered": 1}, {"closing": True}], ids=str)
def test_direct_write_is_refused(state):
    """A direct write is refused while data is buffered, which it would overtake, or while closing."""
    transport = Transport(**state)
    assert uvicorn.writer_of(build_protocol(transport).send)(b"frame") is False
    assert transport.sent == []


def test_nothing_is_written_after_the_close():
    """A direct write is refused after the close is sent, also before the client has answered it."""
    transport = Transport()
    protocol = build_protocol(transport)
    write = uvicorn.writer_of(protocol.send)
    protocol.close_sent = True
    assert write(b"late") is False
    assert transport.sent == []


def test_no_direct_writes():
    """There are no direct writes with compression, on changed classes, on other servers or for wrapped functions."""
    transport = Transport()
    assert uvicorn.writer_of(build_protocol(transport, extensions=["deflate"]).send) is None
    assert uvicorn.writer_of(build_protocol(transport, build_class(send=send_nothing)).send) is None
    assert uvicorn.writer_of(lambda message: None) is None
    assert uvicorn.writer_of(transport.write) is None

"""The direct way to the sockets of uvicorn: compared with the ordinary one, and not used where they differ."""

import asyncio
import logging

import pytest

from notifications.realtime.servers import uvicorn_writer
from notifications.realtime.servers.websocket_frames import encode_text_frame

websockets_sansio_impl = pytest.importorskip("uvicorn.protocols.websockets.websockets_sansio_impl")
BoundedWebSocket = pytest.importorskip("notifications.realtime.servers.uvicorn_frames").BoundedWebSocket
Real = websockets_sansio_impl.WebSocketsSansIOProtocol


def variant(**changes):
    """A class with uvicorn's name that differs by ``changes``."""
    names = {"__module__": Real.__module__, "__qualname__": Real.__qualname__, **changes}
    return type(Real.__name__, (Real,), names)


async def sends_nothing(self, message):
    pass


async def waits(self, message):
    await asyncio.sleep(0)


async def sends_otherwise(self, message):
    self.transport.write(b"\x81" + message["text"].encode())


async def needs_more(self, message):
    await Real.send(self, {**message, "type": self.kind_of_message})


@pytest.mark.parametrize("protocol_class", [Real, BoundedWebSocket])
def test_the_installed_uvicorn_is_supported(protocol_class):
    """Both ways send the same bytes, also on the class of the app that bounds frames."""
    assert uvicorn_writer.is_supported(protocol_class)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"send": sends_nothing}, "a text of 1 bytes is sent as b'', not as b'\\x81\\x01x'."),
        ({"send": sends_otherwise}, "a text of 1 bytes is sent as b'\\x81x', not as b'\\x81\\x01x'."),
        ({"send": waits}, "send() waits although the transport takes everything."),
        ({"send": needs_more}, "no attribute 'kind_of_message'"),
        (
            {"__qualname__": "Other"},
            "its protocol is uvicorn.protocols.websockets.websockets_sansio_impl.Other",
        ),
    ],
    ids=["nothing", "otherwise", "waits", "needs more", "another class"],
)
def test_another_uvicorn_is_not_written_to(caplog, changes, problem):
    """The log gives the reason, once."""
    other = variant(**changes)
    with caplog.at_level(logging.WARNING):
        assert not uvicorn_writer.is_supported(other)
        assert not uvicorn_writer.is_supported(other)
    (line,) = caplog.messages
    assert line.startswith("WebSocket frames are not written directly on this uvicorn: ")
    assert problem in line


class Transport:
    """As uvloop's, of an open connection."""

    def __init__(self, *, buffered=0, closing=False):
        self.buffered, self.closing, self.sent = buffered, closing, []

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return self.buffered

    def write(self, data):
        self.sent.append(data)


def connection(transport, protocol_class=Real, extensions=()):
    protocol = protocol_class.__new__(protocol_class)
    protocol.transport, protocol.close_sent = transport, False
    protocol.conn = type("Connection", (), {"extensions": list(extensions)})()
    return protocol


def test_a_frame_is_given_to_the_transport_as_it_is():
    """Without a copy for each socket."""
    frame, transport = encode_text_frame(b"Hello"), Transport()
    assert uvicorn_writer.writer_of(connection(transport).send)(frame) is True
    assert transport.sent[0] is frame


@pytest.mark.parametrize("state", [{"buffered": 1}, {"closing": True}], ids=str)
def test_what_cannot_go_directly(state):
    """Behind what waits to be written, the ordinary way bounds it; a closing connection takes nothing."""
    transport = Transport(**state)
    assert uvicorn_writer.writer_of(connection(transport).send)(b"frame") is False
    assert transport.sent == []


def test_nothing_follows_a_close():
    """Also while the client has not answered it."""
    transport = Transport()
    protocol = connection(transport)
    write = uvicorn_writer.writer_of(protocol.send)
    protocol.close_sent = True
    assert write(b"late") is False
    assert transport.sent == []


def test_sockets_without_a_direct_way():
    """Compression must see each message; other servers and wrapped sends have no transport."""
    transport = Transport()
    assert uvicorn_writer.writer_of(connection(transport, extensions=["deflate"]).send) is None
    assert uvicorn_writer.writer_of(connection(transport, variant(send=sends_nothing)).send) is None
    assert uvicorn_writer.writer_of(lambda message: None) is None
    assert uvicorn_writer.writer_of(transport.write) is None

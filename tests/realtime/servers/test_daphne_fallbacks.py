"""The adapters check that they support the installed Daphne, and log when its own code runs instead."""

from functools import partial
from types import SimpleNamespace

import pytest

from notifications.realtime import servers
from notifications.realtime.servers import daphne


@pytest.fixture(autouse=True)
def clear_caches():
    """Clear the caches of logged fallbacks and of the check, so that each test checks and logs again."""
    caches = (servers.log_fallback, daphne.can_write_directly)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_a_fallback_is_logged_once(caplog):
    """A fallback is logged once per reason, not for each connection."""
    for reason in ("one", "one", "two"):
        servers.log_fallback("Something is not adapted: %s", reason)
    assert caplog.messages == ["Something is not adapted: one", "Something is not adapted: two"]


def test_installed_daphne_is_supported(caplog):
    """On the installed Daphne, direct writes send the same bytes as autobahn and Twisted."""
    pytest.importorskip("daphne")
    assert daphne.can_write_directly()
    assert caplog.messages == []


def test_installed_daphne_is_limited(caplog):
    """The installed Daphne has all methods that the bounded protocols override."""
    http_protocol = pytest.importorskip("daphne.http_protocol")
    daphne.use_bounded_protocols()
    assert http_protocol.WebRequest.__name__ == "BoundedRequest"
    assert caplog.messages == []


def test_daphne_that_encodes_differently_is_not_written_to(monkeypatch, caplog):
    """A Daphne that sends other bytes than a direct write is not supported."""
    websocket_class = pytest.importorskip("daphne.ws_protocol").WebSocketFactory.protocol
    monkeypatch.setattr(websocket_class, "sendMessage", lambda self, payload, binary: self.sendData(b"other"))
    assert not daphne.can_write_directly()
    assert caplog.messages == [
        "WebSocket frames are not written directly on this Daphne: "
        "a message of 1 bytes is sent as b'other', not as b'\\x81\\x01x'."
    ]


def test_daphne_without_an_attribute_is_not_written_to(monkeypatch, caplog):
    """A Daphne whose private attributes have changed is not supported."""
    abstract = pytest.importorskip("twisted.internet.abstract")
    monkeypatch.delattr(abstract.FileDescriptor, "dataBuffer")
    assert not daphne.can_write_directly()
    (line,) = caplog.messages
    assert line.startswith("WebSocket frames are not written directly on this Daphne: AttributeError(")


def test_daphne_with_another_shutdown(monkeypatch, caplog):
    """On a Daphne with another shutdown, clients are still closed, and the log says what is missing."""
    pytest.importorskip("daphne")
    from twisted.internet import reactor

    triggers = []
    monkeypatch.setattr(reactor, "addSystemEventTrigger", lambda *args: triggers.append(args), raising=False)
    daphne.call_before_shutdown(SimpleNamespace(), None)
    assert [args[:2] for args in triggers] == [("before", "shutdown")]
    (line,) = caplog.messages
    assert line.startswith("Waiting requests are cancelled at shutdown on this Daphne: AttributeError(")


class Server:
    """The object that Daphne's send function is a method of."""

    root_path = "/behind"

    async def handle_reply(self, message):
        pass


Server.__module__ = "daphne.server"


def test_daphne_root_path_header_is_ignored():
    """On Daphne the root path is the server's own, not that of a request header; other servers are not recognized."""
    server = daphne.server_of(partial(Server().handle_reply))
    scope = {"type": "http", "root_path": "//evil.example"}
    assert daphne.with_server_root_path(scope, server)["root_path"] == "/behind"
    assert daphne.server_of(lambda message: None) is None

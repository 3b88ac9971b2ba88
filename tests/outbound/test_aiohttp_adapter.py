"""Both ways of sending requests over aiohttp, and the check that chooses one."""

import asyncio
import gzip
import logging

import pytest
from aiohttp import ClientResponse, TCPConnector

from notifications import outbound
from notifications.outbound import aiohttp_adapter
from notifications.outbound.aiohttp_adapter import DirectTransport, SessionTransport, find_incompatibility

from .conftest import PUBLIC_HOST
from .upstream import CannedServer, http_response


@pytest.fixture
def fresh_check():
    find_incompatibility.cache_clear()
    yield
    find_incompatibility.cache_clear()


@pytest.fixture(params=[DirectTransport, SessionTransport])
def transport(request, monkeypatch):
    """Send requests with each transport."""
    reason = "" if request.param is DirectTransport else "for this test"
    monkeypatch.setattr(aiohttp_adapter, "find_incompatibility", lambda: reason)
    sent = []

    async def send(self, request, headers, _send=request.param.send):
        sent.append(request)
        return await _send(self, request, headers)

    monkeypatch.setattr(request.param, "send", send)
    yield request.param
    assert sent


async def test_request_and_response(transport, upstream):
    response = await outbound.post(upstream.url("/echo"), json={"a": 1}, headers={"X-A": "b"})
    received = response.json()
    assert (received["method"], received["body"], received["headers"]["x-a"]) == ("POST", '{"a": 1}', "b")
    assert (await outbound.head(upstream.url("/sized/10"))).body == b""
    assert len(upstream.connections) == 1


async def test_redirects_are_not_followed_by_aiohttp(transport, upstream):
    response = await outbound.get(upstream.url("/redirect?to=/ok"))
    assert [hop.status for hop in response.history] == [302]


async def test_no_cookies(transport, public_upstream, resolve_names):
    resolve_names({"api.test": [PUBLIC_HOST]})
    for _ in range(2):
        response = await outbound.get(f"http://api.test:{public_upstream.port}/echo")
        assert "cookie" not in response.json()["headers"]


async def test_body_is_not_decompressed_by_aiohttp(transport, allow):
    """Otherwise a decompression bomb would be in memory before it is counted."""
    body = gzip.compress(bytes(10_000_000))
    with CannedServer(http_response(body, "Content-Encoding: gzip")) as server:
        allow(server.address)
        with pytest.raises(outbound.TooLarge):
            await outbound.get(server.url, max_bytes=100_000)


async def test_guard(transport, canary, allow, resolve_names, monkeypatch):
    """The socket of a reserved address is not created, also if the resolver lets it through."""
    allow(ports=[canary.port])
    resolve_names({"rebind.test": ["127.0.0.1"]})
    monkeypatch.setattr("notifications.outbound.resolver.describe_reserved", lambda address: None)
    with pytest.raises(outbound.Refused):
        await outbound.get(f"http://rebind.test:{canary.port}/")


async def test_deadline_and_errors(transport, upstream, allow):
    with pytest.raises(outbound.TimedOut):
        await outbound.get(upstream.url("/slow/30"), deadline=0.2)
    with CannedServer(b"SSH-2.0\r\n") as server:
        allow(server.address)
        with pytest.raises(outbound.BadResponse, match="is not HTTP"):
            await outbound.get(server.url)
    with pytest.raises(outbound.Unreachable):
        await outbound.get(server.url, guard=False, retries=0)


async def test_closed_kept_connection(transport, allow):
    """An idempotent request on a kept connection that the server has closed costs no attempt."""
    with CannedServer(http_response(b"ok"), keep_alive=True) as server:
        allow(server.address)
        assert (await outbound.get(server.url)).attempts == 1
        server.closes_kept = True
        assert (await outbound.get(server.url)).attempts == 1


async def test_installed_version_is_compatible(fresh_check, caplog):
    assert find_incompatibility() == ""
    assert not caplog.records


def test_changed_signature(fresh_check, monkeypatch):
    async def start(self, connection, added):
        """A later version of ``ClientResponse.start``."""

    monkeypatch.setattr(ClientResponse, "start", start)
    assert "start: missing a required argument: 'added'" in aiohttp_adapter._find_changed_signature()


async def test_missing_attribute(fresh_check, monkeypatch):
    monkeypatch.setattr(TCPConnector, "__init__", lambda self: None)
    assert "has no _factory" in aiohttp_adapter._find_missing_attribute()


async def test_fallback(fresh_check, upstream, monkeypatch, caplog):
    """With an aiohttp that differs, its session sends the requests, and one line in the log says so."""
    caplog.set_level(logging.WARNING, "notifications.outbound")
    monkeypatch.setattr(aiohttp_adapter, "_missing", "No module named 'aiohttp.client_proto'")
    monkeypatch.setattr(DirectTransport, "send", None)
    for _ in range(2):
        async with outbound.stream("GET", upstream.url("/ok")) as response:
            assert response.status == 200
    await asyncio.to_thread(asyncio.run, outbound.get(upstream.url("/ok")))
    (message,) = caplog.messages
    assert message.startswith("Outbound calls use aiohttp's session")
    assert message.endswith("No module named 'aiohttp.client_proto'")

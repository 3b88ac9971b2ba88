"""Fixtures for outbound calls: real servers, a canary, and names that stand for what a test says."""

import json
import socket
from pathlib import Path

import pytest

from notifications.outbound import guard, pools, resolver
from notifications.outbound.addresses import reserved
from notifications.outbound.circuits import circuits

from .upstream import EverywhereCanary, Upstream

VECTORS = json.loads((Path(__file__).parent / "addresses.json").read_text())

OUTSIDE = "127.0.0.2"


@pytest.fixture(autouse=True)
def forget():
    """Each test begins without memory of servers that failed."""
    circuits.reset()


@pytest.fixture
def allow(settings):
    """Opens places of the allow list and ports: allow("127.0.0.1:8000", ports=[8080])."""

    def allow(*places, ports=(), **more):
        settings.NOTIFICATIONS = {
            "OUTBOUND_ALLOW": list(places),
            "OUTBOUND_PORTS": [80, 443, *ports],
            **more,
        }

    return allow


@pytest.fixture
def upstream(allow):
    """An upstream on loopback that the allow list opens."""
    upstream = Upstream()
    allow(upstream.place)
    yield upstream
    upstream.close()


@pytest.fixture
def outside(monkeypatch, allow):
    """An upstream on an address that counts as public here, with nothing on the allow list."""

    def reserved_but_outside(address):
        return None if address == OUTSIDE else reserved(address)

    for module in (guard, resolver, pools):
        monkeypatch.setattr(module, "reserved", reserved_but_outside)
    upstream = Upstream(OUTSIDE)
    allow(ports=[upstream.port])
    yield upstream
    upstream.close()


@pytest.fixture
def everywhere():
    """A canary on every address of this machine. The test fails if it saw a connection."""
    canary = EverywhereCanary()
    yield canary
    canary.close()
    assert canary.connections == 0, f"The canary saw {canary.connections} connections."


@pytest.fixture
def stands_for(monkeypatch):
    """Says what names stand for: stands_for({"a.test": ["127.0.0.1"]}). No other name is found."""

    def stands_for(book):
        def lookup(host, port):
            if host not in book:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            found = book[host]
            return found() if callable(found) else found

        monkeypatch.setattr(resolver, "lookup", lookup)

    return stands_for

"""Fixtures of outbound calls: real servers, a canary and fake name resolution."""

import json
import socket
from pathlib import Path

import pytest

from notifications.outbound import connector, guard, resolver
from notifications.outbound.addresses import describe_reserved
from notifications.outbound.circuits import circuits

from .upstream import Canary, Upstream

VECTORS = json.loads((Path(__file__).parent / "addresses.json").read_text())

PUBLIC_HOST = "127.0.0.2"


@pytest.fixture(autouse=True)
def reset_circuits():
    """Begin each test without failures of servers."""
    circuits.reset()


@pytest.fixture
def allow(settings):
    """Set the allow list and the ports: allow("127.0.0.1:8000", ports=[8080])."""

    def allow(*addresses, ports=(), **more):
        settings.NOTIFICATIONS = {
            "OUTBOUND_ALLOW": list(addresses),
            "OUTBOUND_PORTS": [80, 443, *ports],
            **more,
        }

    return allow


@pytest.fixture
def upstream(allow):
    """An upstream on loopback, on the allow list."""
    upstream = Upstream()
    allow(upstream.address)
    yield upstream
    upstream.close()


@pytest.fixture
def public_upstream(monkeypatch, allow):
    """An upstream on a loopback address that is treated as public, with an empty allow list."""

    def describe_reserved_except_upstream(address):
        return None if address == PUBLIC_HOST else describe_reserved(address)

    for module in (guard, connector):
        monkeypatch.setattr(module, "describe_reserved", describe_reserved_except_upstream)
    upstream = Upstream(PUBLIC_HOST)
    allow(ports=[upstream.port])
    yield upstream
    upstream.close()


@pytest.fixture
def canary():
    """A canary on every address of this machine. The test fails if it received a connection."""
    canary = Canary()
    yield canary
    canary.close()
    canary.check()


@pytest.fixture
def resolve_names(monkeypatch):
    """Set the addresses of names: resolve_names({"a.test": ["127.0.0.1"]}). No other name is found."""

    def resolve_names(addresses):
        def resolve_name(host):
            if host not in addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            found = addresses[host]
            return found() if callable(found) else found

        monkeypatch.setattr(resolver, "resolve_name", resolve_name)

    return resolve_names

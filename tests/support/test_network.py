"""The cut network of other tests is a cut network."""

import socket
import urllib.request

import pytest

from tests.support.network import Canary, Proxy


def test_proxy_passes_cuts_and_restores():
    """Through the proxy one reaches the server, not while it is cut, and again afterwards."""
    with Canary() as server, Proxy(server.port) as proxy:
        assert urllib.request.urlopen(proxy.url, timeout=5).read() == b"canary"
        with socket.create_connection(("127.0.0.1", proxy.port)) as open_connection:
            open_connection.settimeout(5)
            open_connection.sendall(b"GET")
            proxy.cut()
            with pytest.raises(OSError):
                urllib.request.urlopen(proxy.url, timeout=5)
            proxy.restore()
        assert urllib.request.urlopen(proxy.url, timeout=5).read() == b"canary"


def test_canary_counts():
    """Each connection counts, whatever it sends."""
    with Canary() as canary:
        assert canary.connections == 0
        urllib.request.urlopen(canary.url, timeout=5).read()
        assert canary.connections == 1

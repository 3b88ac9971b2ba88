"""The proxy and the canary, with which other tests simulate network faults."""

import fcntl
import socket
import sys
import termios
import urllib.request

import pytest

from tests.support.network import Canary, Proxy
from tests.support.waiting import wait_until


def test_cut_and_restore():
    """Requests through the proxy succeed, except between cut() and restore()."""
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


@pytest.mark.parametrize("fault", [Proxy.blackhole, Proxy.stall])
def test_silent_connections(fault):
    """Open connections stay silent and open; new ones are silent until restore()."""
    with (
        Canary() as server,
        Proxy(server.port) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as open_connection,
    ):
        wait_until(lambda: proxy.pairs, what="the proxy to connect")
        fault(proxy)
        assert urllib.request.urlopen(proxy.url, timeout=5).read() == b"canary"
        fault(proxy, new=True)
        with pytest.raises(OSError, match="timed out"):
            urllib.request.urlopen(proxy.url, timeout=0.5)
        proxy.restore()
        assert urllib.request.urlopen(proxy.url, timeout=5).read() == b"canary"
        open_connection.settimeout(0.5)
        open_connection.sendall(b"GET")
        with pytest.raises(TimeoutError):
            open_connection.recv(1)
        unsent = fcntl.ioctl(open_connection, termios.TIOCOUTQ, bytes(4))  # Sent and not acknowledged.
        assert int.from_bytes(unsent, sys.byteorder) == (3 if fault is Proxy.blackhole else 0)


def test_canary_counts():
    """Each connection counts, whatever it sends."""
    with Canary() as canary:
        assert canary.connections == 0
        urllib.request.urlopen(canary.url, timeout=5).read()
        assert canary.connections == 1

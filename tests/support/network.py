"""The loopback network: free ports, a proxy that can interrupt connections, a server that counts connections."""

import contextlib
import ctypes
import select
import socket
import struct
import threading

#: Constants of Linux that Python lacks.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


def free_port():
    """Return a TCP port of 127.0.0.1 that is unused now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port, host="127.0.0.1"):
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


class Listener:
    """A loopback server that calls `serve` with each accepted connection, in its own thread."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        # shutdown() wakes the accepting thread, close() alone does not.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        raise NotImplementedError


class Proxy(Listener):
    """A TCP proxy in front of `port`: `url` instead of the server's own goes through it.

    cut() closes every connection and refuses new ones, which a browser cannot distinguish from a lost network;
    restore() accepts new ones. Unlike Chromium's offline switch, cut() also closes an open WebSocket.

    blackhole() and stall() silence every open connection permanently, in both directions and without a reset:
    blackhole() like a network that drops each packet, so that nothing is acknowledged; stall() like a hanging
    middlebox, which acknowledges data and does not forward it. With new=True they also silence connections made
    afterwards, until restore().
    """

    def __init__(self, port):
        self.upstream_port = port
        self.is_cut = False
        self.is_stalled = False
        self.pairs = set()
        self.lock = threading.Lock()
        super().__init__()
        self.url = f"http://{self.address}"

    def cut(self):
        with self.lock:
            self.is_cut = True
            pairs = list(self.pairs)
        for pair in pairs:
            for connection in pair:
                shut_down(connection)

    def blackhole(self, *, new=False):
        if new:
            drop_packets(self.socket)
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            for connection in pair:
                drop_packets(connection)

    def stall(self, *, new=False):
        with self.lock:
            self.is_stalled = new
            for pair in self.pairs:
                pair.is_stalled = True

    def restore(self):
        with self.lock:
            self.is_cut = self.is_stalled = False
        with contextlib.suppress(OSError):  # No filter is attached.
            self.socket.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    def close(self):
        super().close()
        self.cut()

    def serve(self, client):
        with self.lock:
            is_refused = self.is_cut
        if is_refused:
            return reset(client)
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream_port))
        except OSError:
            return reset(client)
        pair = Pair((client, server))
        with self.lock:
            self.pairs.add(pair)
            is_refused = self.is_cut
            pair.is_stalled = self.is_stalled
        if is_refused:  # cut() was called after the first check.
            shut_down(client)
        response_thread = threading.Thread(target=self.respond, args=(server, client, pair), daemon=True)
        response_thread.start()
        forward(client, server, pair)
        response_thread.join()
        with self.lock:
            self.pairs.discard(pair)
        client.close()
        server.close()

    def respond(self, server, client, pair):
        forward(server, client, pair)


class SilentProxy(Proxy):
    """A proxy that takes connections and is silent, until `may_answer` lets the server behind it answer them.

    `connections` are those so far, and `open` those that no side has closed.
    """

    def __init__(self, port):
        self.may_answer = threading.Event()
        self.connections, self.open = 0, set()
        super().__init__(port)

    def close_connections(self):
        """End all connections, as a server does that has waited for too long."""
        for connection in list(self.open):
            shut_down(connection)

    def close(self):
        super().close()
        self.close_connections()

    def serve(self, client):
        with self.lock:
            self.connections += 1
            self.open.add(client)
        has_ended = select.poll()
        has_ended.register(client, select.POLLRDHUP)
        while not self.may_answer.is_set():
            if has_ended.poll(50):
                client.close()
                break
        else:
            super().serve(client)
        self.open.discard(client)


class Canary(Listener):
    """A server that must not be reached. It counts `connections` and responds with 200."""

    def __init__(self):
        self.connections = 0
        super().__init__()
        self.url = f"http://{self.address}/"

    def serve(self, connection):
        self.connections += 1
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncanary")


class Pair(tuple):
    """The two connections of a proxy, from the client and to the server."""

    is_stalled = False


def forward(source, target, pair):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if not pair.is_stalled:
                target.sendall(data)
    if pair.is_stalled:
        return  # Neither side learns that the other has closed.
    for connection, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        with contextlib.suppress(OSError):
            connection.shutdown(how)


def drop_packets(connection):
    """Make the kernel drop each packet to a socket without acknowledgment: a filter of one BPF instruction."""
    instruction = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET: keep 0 bytes
    buffer = ctypes.create_string_buffer(instruction)
    program = struct.pack("HL", 1, ctypes.addressof(buffer))
    with contextlib.suppress(OSError):  # The socket is closed.
        connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def shut_down(connection):
    # Not closed: forward() still uses the descriptor, whose number could be reused.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def reset(connection):
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()

"""A server that takes connections and is silent, until it lets the server behind it answer them."""

import asyncio
import threading
from contextlib import contextmanager, suppress

from tests.support.smtp_server import end_connections


class SilentProxy:
    """Ports on loopback in front of one server: ``ports``; ``connections`` so far, and how many are ``open``."""

    def __init__(self, target, count=1):
        self._target, self._count = target, count
        self._loop, self._may_answer = asyncio.new_event_loop(), asyncio.Event()
        self._writers = set()
        self.ports, self.connections, self.open = [], 0, 0

    def answer(self):
        """Let the server answer all connections, those that wait included."""
        self._loop.call_soon_threadsafe(self._may_answer.set)

    def keep_silent(self):
        """Answer no further connections."""
        self._loop.call_soon_threadsafe(self._may_answer.clear)

    def close_connections(self):
        """End all connections, as a server does that has waited for too long."""
        for writer in list(self._writers):
            self._loop.call_soon_threadsafe(writer.close)

    async def _listen(self):
        self._servers = [await asyncio.start_server(self._serve, "127.0.0.1", 0) for _ in range(self._count)]
        self.ports = [server.sockets[0].getsockname()[1] for server in self._servers]

    async def _serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            received = await self._receive_silently(reader)
            if received is not None:  # the client has not given up
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
                to_server.write(received)
                await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))
        except OSError:
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _receive_silently(self, reader):
        """Return what a client has sent until the server may answer, None if it has closed the connection."""
        received = b""
        while not self._may_answer.is_set():
            with suppress(TimeoutError):
                data = await asyncio.wait_for(reader.read(65_536), 0.05)
                if not data:
                    return None
                received += data
        return received


async def _copy(reader, writer):
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@contextmanager
def silent_proxy(target, count=1):
    """Run a proxy of a port on a thread; yield it."""
    proxy = SilentProxy(target, count)
    proxy._loop.run_until_complete(proxy._listen())
    thread = threading.Thread(target=proxy._loop.run_forever, name="silent proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        for server in proxy._servers:
            proxy._loop.call_soon_threadsafe(server.close)
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join()
        proxy._loop.run_until_complete(end_connections())
        proxy._loop.close()

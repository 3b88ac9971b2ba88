"""Real servers on loopback: an API, one that sends canned bytes, and a canary on every address."""

import asyncio
import contextlib
import gzip
import random
import socket
import threading
import zlib
from dataclasses import dataclass

from aiohttp import web

from tests.support.network import Listener


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    method: str
    path: str
    headers: object
    body: bytes


class Upstream:
    """An aiohttp server in its own thread, which outlives the event loops of a test.

    `requests` are those received, `active` those being handled, and `max_active` their maximum.
    """

    def __init__(self, host="127.0.0.1"):
        self.requests, self.active, self.max_active = [], 0, 0
        self.connections = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.runner, self.port = self._call(self._start(host))
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def url(self, path="/"):
        return f"http://{self.address}{path}"

    def close(self):
        if self.loop.is_closed():
            return
        self._call(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    async def _start(self, host):
        app = web.Application(client_max_size=20_000_000)
        app.router.add_route("*", "/{name}", self._handle)
        app.router.add_route("*", "/{name}/{value:.+}", self._handle)
        app.router.add_route("*", "/", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        return runner, site._server.sockets[0].getsockname()[1]

    async def _stop(self):
        await self.runner.cleanup()
        # Handlers whose clients have gone.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, request):
        self.connections.add(request.transport.get_extra_info("peername")[1])
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        try:
            self.requests.append(
                ReceivedRequest(
                    method=request.method,
                    path=request.raw_path,
                    headers=request.headers,
                    body=await request.read(),
                )
            )
            return await getattr(self, request.match_info.get("name", "ok"))(request)
        finally:
            self.active -= 1

    async def wait_until_busy(self, requests=1):
        """Wait until as many requests are being handled."""
        async with asyncio.timeout(60):
            while self.active < requests:  # noqa: ASYNC110  # set by another thread
                await asyncio.sleep(0.005)

    async def ok(self, request):
        return web.Response(text="ok")

    async def echo(self, request):
        received = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
        return web.json_response(received, headers={"Set-Cookie": "a=b"})

    async def status(self, request):
        return web.Response(status=int(request.match_info["value"]))

    async def redirect(self, request):
        await asyncio.sleep(float(request.query.get("after", 0)))
        status = int(request.query.get("status", 302))
        return web.Response(status=status, headers={"Location": request.query["to"]})

    async def sequence(self, request):
        """CannedServer the statuses of the query one after the other, then 200; `wait` is their Retry-After."""
        statuses = request.query["statuses"].split(",")
        index = sum(received.path == request.raw_path for received in self.requests) - 1
        if index >= len(statuses):
            return web.Response(text="ok")
        if statuses[index] == "cut":
            request.transport.close()
            return web.Response()
        if statuses[index] == "half":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"half")
            request.transport.close()
            return response
        headers = {"Retry-After": request.query["retry_after"]} if "retry_after" in request.query else {}
        return web.Response(status=int(statuses[index]), headers=headers, text="not now")

    async def slow(self, request):
        await asyncio.sleep(float(request.match_info["value"]))
        return web.Response(text="slow")

    async def drip(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(600):
                await response.write(b".")
                await asyncio.sleep(0.05)
        return response

    async def big(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(int(request.match_info["value"]) * 10):
                await response.write(b"x" * 100_000)
        return response

    async def sized(self, request):
        return web.Response(body=b"x" * int(request.match_info["value"]))

    async def compressed(self, request):
        encoding, size = request.query["encoding"], int(request.match_info["value"])
        body = compress(encoding, size)[: int(request.query.get("cut", 10**9))]
        return web.Response(body=body, headers={"Content-Encoding": encoding})


def compress(encoding, size):
    """Return `size` compressed zeros, without creating them all at once. `gzip, br` nests two encodings."""
    first, _, others = encoding.partition(",")
    if others or first in ("br", "zstd"):
        body = compress(first, size) if others else bytes(size)
        for name in (others or first).split(","):
            body = COMPRESSORS[name.strip()](body)
        return body
    wbits = {"gzip": 31, "deflate": 15, "raw": -15}.get(encoding.lower(), 31)
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits)
    block = bytes(1_000_000)
    parts = [compressor.compress(block) for _ in range(size // len(block))]
    return b"".join([*parts, compressor.compress(bytes(size % len(block))), compressor.flush()])


def _brotli(body):
    import brotli

    return brotli.compress(body)


def _zstd(body):
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd

    return zstd.compress(body, 19)


COMPRESSORS = {"br": _brotli, "zstd": _zstd, "gzip": gzip.compress, "deflate": zlib.compress}


class CannedServer(Listener):
    """A server that sends the same bytes on every connection, then closes it, or with `keep_open` leaves it open.

    With `keep_alive` it responds to every request on a connection, unless `closes_kept` is set: then it closes the
    connection at the second request.
    """

    def __init__(self, *parts, keep_open=False, keep_alive=False):
        self.parts, self.keep_open, self.keep_alive, self.request_count = parts, keep_open, keep_alive, 0
        self.closes_kept = False
        super().__init__()
        self.url = f"http://{self.address}/"

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(60)
            was_used = False
            while connection.recv(65536):
                self.request_count += 1
                if was_used and self.closes_kept:
                    return
                was_used = True
                for part in self.parts:
                    connection.sendall(part)
                if not self.keep_alive:
                    break
            if self.keep_open:
                connection.recv(1)


def _listen_outside_free_ports():
    """Return a server on a port that the system gives to no other test, whose clients could still try to reconnect."""
    while True:
        with contextlib.suppress(OSError):
            return socket.create_server(("0.0.0.0", random.randrange(20_000, 32_000)))


class Canary:
    """Listen on one port of every address of this machine, and count connections."""

    def __init__(self):
        self.connections = 0
        self.sockets = [_listen_outside_free_ports()]
        self.port = self.sockets[0].getsockname()[1]
        if socket.has_ipv6:
            with contextlib.suppress(OSError):
                self.sockets.append(socket.create_server(("::", self.port), family=socket.AF_INET6))
        for server in self.sockets:
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def _accept(self, server):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                self.connections += 1
                connection.close()

    def check(self):
        """Fail if it was reached since the last check."""
        connections, self.connections = self.connections, 0
        assert connections == 0, f"The canary received {connections} connections."

    def close(self):
        for server in self.sockets:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


def http_response(body=b"", *headers, status="200 OK"):
    """Return the bytes of an HTTP response."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body

"""Real servers on loopback: an API that behaves, one that says what it is told, and a canary on every address."""

import asyncio
import contextlib
import gzip
import socket
import threading
import zlib
from dataclasses import dataclass

from aiohttp import web

from tests.support.network import Listener


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: object
    body: bytes


class Upstream:
    """An aiohttp server in a thread of its own, so that event loops of tests may come and go.

    `seen` are the requests, `most` is how many were under way at once.
    """

    def __init__(self, host="127.0.0.1"):
        self.seen, self.now, self.most = [], 0, 0
        self.connections = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.runner, self.port = self._call(self._start(host))
        self.place = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def url(self, path="/"):
        return f"http://{self.place}{path}"

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
        app.router.add_route("*", "/{what}", self._answer)
        app.router.add_route("*", "/{what}/{value}", self._answer)
        app.router.add_route("*", "/", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        return runner, site._server.sockets[0].getsockname()[1]

    async def _stop(self):
        await self.runner.cleanup()
        # Answers that nobody waits for any more.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _answer(self, request):
        self.connections.add(request.transport.get_extra_info("peername")[1])
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            self.seen.append(
                Seen(
                    method=request.method,
                    path=request.raw_path,
                    headers=request.headers,
                    body=await request.read(),
                )
            )
            return await getattr(self, request.match_info.get("what", "ok"))(request)
        finally:
            self.now -= 1

    async def busy(self):
        """Returns as soon as a request is under way."""
        async with asyncio.timeout(60):
            while not self.now:  # noqa: ASYNC110  # another thread's loop counts
                await asyncio.sleep(0.005)

    async def ok(self, request):
        return web.Response(text="ok")

    async def echo(self, request):
        answer = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
        return web.json_response(answer, headers={"Set-Cookie": "a=b"})

    async def status(self, request):
        return web.Response(status=int(request.match_info["value"]))

    async def redirect(self, request):
        await asyncio.sleep(float(request.query.get("after", 0)))
        status = int(request.query.get("status", 302))
        return web.Response(status=status, headers={"Location": request.query["to"]})

    async def times(self, request):
        """Says the statuses of the query one after the other, then 200; `wait` is their Retry-After."""
        told = request.query["say"].split(",")
        at = sum(seen.path == request.raw_path for seen in self.seen) - 1
        if at >= len(told):
            return web.Response(text="ok")
        if told[at] == "cut":
            request.transport.close()
            return web.Response()
        if told[at] == "half":
            answer = web.StreamResponse(headers={"Content-Length": "1000"})
            await answer.prepare(request)
            await answer.write(b"half")
            request.transport.close()
            return answer
        headers = {"Retry-After": request.query["wait"]} if "wait" in request.query else {}
        return web.Response(status=int(told[at]), headers=headers, text="not now")

    async def slow(self, request):
        await asyncio.sleep(float(request.match_info["value"]))
        return web.Response(text="slow")

    async def drip(self, request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(600):
                await answer.write(b".")
                await asyncio.sleep(0.05)
        return answer

    async def big(self, request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(int(request.match_info["value"]) * 10):
                await answer.write(b"x" * 100_000)
        return answer

    async def sized(self, request):
        return web.Response(body=b"x" * int(request.match_info["value"]))

    async def packed(self, request):
        encoding, size = request.query["encoding"], int(request.match_info["value"])
        body = pack(encoding, size)[: int(request.query.get("cut", 10**9))]
        return web.Response(body=body, headers={"Content-Encoding": encoding})


def pack(encoding, size):
    """`size` zeros, packed without making them all at once; several encodings like `gzip, br`, one in the other."""
    first, _, others = encoding.partition(",")
    if others or first in ("br", "zstd"):
        body = pack(first, size) if others else bytes(size)
        for name in (others or first).split(","):
            body = PACKERS[name.strip()](body)
        return body
    wbits = {"gzip": 31, "deflate": 15, "raw": -15}.get(encoding.lower(), 31)
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    block = bytes(1_000_000)
    parts = [packer.compress(block) for _ in range(size // len(block))]
    return b"".join([*parts, packer.compress(bytes(size % len(block))), packer.flush()])


def _brotli(body):
    import brotli

    return brotli.compress(body)


def _zstd(body):
    from notifications.outbound.decompression import zstd

    return zstd.compress(body, 19)


PACKERS = {"br": _brotli, "zstd": _zstd, "gzip": gzip.compress, "deflate": zlib.compress}


class Says(Listener):
    """A server that answers every connection with the same bytes, then closes it, or keeps it open.

    With `again` it answers every request on the connection, unless it is to `hang_up` at the second. `asked` counts.
    """

    def __init__(self, *said, keep=False, again=False):
        self.said, self.keep, self.again, self.asked = said, keep, again, 0
        self.hang_up = False
        super().__init__()
        self.url = f"http://{self.address}/"

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(60)
            old = False
            while connection.recv(65536):
                self.asked += 1
                if old and self.hang_up:
                    return
                old = True
                for part in self.said:
                    connection.sendall(part)
                if not self.again:
                    break
            if self.keep:
                connection.recv(1)


class EverywhereCanary:
    """Listens on one port of every address of this machine, and counts connections."""

    def __init__(self):
        self.connections = 0
        self.sockets = [socket.create_server(("0.0.0.0", 0))]
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

    def close(self):
        for server in self.sockets:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


def answer(body=b"", *headers, status="200 OK"):
    """The bytes of an HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body

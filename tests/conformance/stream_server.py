"""A server of the Durable Streams protocol for its conformance suite, whose reads a site of this app answers as it is.

A stream is a job, and what is appended its output: the write half, which the app does not have.
"""

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
from aiohttp import web

#: Headers of one connection.
HOP_BY_HOP = {"connection", "date", "keep-alive", "server", "transfer-encoding"}
NO_LIMIT = aiohttp.ClientTimeout(total=None)


class StreamServer:
    """`url` of the server; `site` is the one that answers, `driver` has the actions of stream_actions.py."""

    def __init__(self, site, driver):
        self.site, self.driver = site, driver
        self.jobs = {}
        self.url = ""

    async def call(self, action, **arguments):
        return await asyncio.to_thread(self.driver.call, action, **arguments)

    async def create(self, request):
        if request.path in self.jobs:
            return web.Response(status=200)
        self.jobs[request.path] = job = await self.call("start_job")
        await self.store(job, request)
        headers = {"Location": f"{self.url}{request.path}", "Stream-Next-Offset": await self.read_end(job)}
        return web.Response(status=201, headers=headers, content_type="text/plain")

    async def append(self, request):
        job = self.jobs.get(request.path)
        if job is None:
            return web.Response(status=404)
        await self.store(job, request)
        return web.Response(status=204, headers={"Stream-Next-Offset": await self.read_end(job)})

    async def store(self, job, request):
        if text := (await request.read()).decode():
            await self.call("write", id=job, text=text)
        if request.headers.get("Stream-Closed", "").lower() == "true":
            await self.call("end", id=job, state="succeeded")

    async def read_end(self, job):
        async with self.http.head(self.address_of(job)) as response:
            return response.headers["Stream-Next-Offset"]

    def address_of(self, job):
        return f"{self.site.url}/notifications/api/jobs/{job}/output/"

    async def read(self, request):
        """Pass a request on to the site, and its response back, with all headers and as it comes."""
        address = f"{self.address_of(self.jobs.get(request.path) or uuid4())}?{request.query_string}"
        headers = {name: request.headers[name] for name in ("If-None-Match",) if name in request.headers}
        async with self.http.request(request.method, address, headers=headers) as upstream:
            kept = [(name, text) for name, text in upstream.headers.items() if name.lower() not in HOP_BY_HOP]
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
        return response

    @asynccontextmanager
    async def serve(self):
        """Listen on a free port of loopback until the end of the block."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        for method, handler in (("PUT", self.create), ("POST", self.append), ("GET", self.read)):
            app.router.add_route(method, "/{path:.*}", handler)
        app.router.add_route("HEAD", "/{path:.*}", self.read)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        cookies = {"sessionid": await self.call("create_demo_session")}
        async with aiohttp.ClientSession(
            cookies=cookies, timeout=NO_LIMIT, auto_decompress=False
        ) as self.http:
            await runner.setup()
            listener = web.TCPSite(runner, "127.0.0.1", 0)
            await listener.start()
            self.url = listener.name
            try:
                yield self
            finally:
                await runner.cleanup()

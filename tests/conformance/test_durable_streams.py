"""The read half of the Durable Streams protocol, by its own conformance suite, on Daphne and uvicorn."""

import asyncio
import json
import os
import re
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.support.driver import driver
from tests.support.npm import NODE_MODULES
from tests.support.requirements import find_program, skip_or_fail
from tests.support.site import ROOT, SERVERS

pytestmark = pytest.mark.nightly_names("*[daphne]")

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
        address = self.address_of(self.jobs.get(request.path) or uuid4())
        address = URL(f"{address}?{request.rel_url.raw_query_string}", encoded=True)
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


SUITE = "@durable-streams/server-conformance-tests"
FOLDER = ROOT / "tests/conformance"
#: Groups of the suite that read.
GROUPS = (
    "Read Operations",
    "Long-Poll Operations",
    "Browser Security Headers",
    "HEAD Metadata",
    "Offset Validation and Resumability",
    "Protocol Edge Cases",
    "Long-Poll Edge Cases",
    "Caching and ETag",
    "Chunking and Large Payloads",
    "Read-Your-Writes Consistency",
    "SSE Mode",
    "HEAD with Stream Closure",
    "Read Closed Streams (Catch-up)",
    "Long-poll with Stream Closure",
    "SSE with Stream Closure",
    "Offset Validation Properties",
)
#: The tests that are left. Another version of the suite has others.
TESTS = 79
#: Parts of the names of tests in them that do not apply, with the reason.
LEFT_OUT = {
    "JSON": "An output is text.",
    "for application/json": "An output is text.",
    "base64": "An output is text.",
    "binary": "An output is text.",
    "chunk-size pagination": "It is bytes. Of large texts tests/contrib/output/test_views.py reads all parts.",
    "metadata without body": "It compares the content type with that of a request to write, which has no charset.",
    "PUT": "It writes.",
    "POST": "It writes.",
    "seq ordering": "It writes.",
    "TTL": "A job is kept for RETENTION.",
    "Expires-At": "A job is kept for RETENTION.",
    "CORS preflight": "The project decides which origins may read.",
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.timeout(400)
async def test_suite(site, server, tmp_path):
    pytest.importorskip(server)
    if not (NODE_MODULES / SUITE).is_dir():
        skip_or_fail(f"{SUITE} is not installed (npm install).", variable="REQUIRE_NPM")
    site.environment["EMBEDDED_WORKER"] = "0"
    await asyncio.to_thread(site.start_web, server)
    left_out = "|".join(map(re.escape, LEFT_OUT)) or "$^"
    pattern = f"^(?!.*(?:{left_out})).*(?:{'|'.join(map(re.escape, GROUPS))})"
    report = tmp_path / "report.json"
    with driver(site, "tests.conformance.stream_actions") as actions:
        async with StreamServer(site, actions).serve() as streams:
            command = [
                NODE_MODULES / "vitest/vitest.mjs",
                "run",
                "--root",
                FOLDER,
                "--testNamePattern",
                pattern,
            ]
            process = await asyncio.create_subprocess_exec(
                find_program("node", package="nodejs"),
                *command,
                *("--reporter=json", f"--outputFile={report}", "--reporter=default"),
                env=os.environ | {"STREAM_SERVER": streams.url, "NO_COLOR": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
    print(output.decode())
    tests = [
        test for file in json.loads(report.read_text())["testResults"] for test in file["assertionResults"]
    ]
    passed = [test["fullName"] for test in tests if test["status"] == "passed"]
    failed = [test["fullName"] for test in tests if test["status"] == "failed"]
    assert (failed, process.returncode) == ([], 0)
    assert len(passed) == TESTS

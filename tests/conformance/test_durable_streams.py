"""The read half of the Durable Streams protocol, by its own conformance suite, on Daphne and uvicorn."""

import asyncio
import json
import os
import re

import pytest

from tests.conformance.conftest import SERVERS
from tests.conformance.stream_server import StreamServer
from tests.support.driver import driver
from tests.support.npm import NODE_MODULES
from tests.support.requirements import find_program, skip_or_fail
from tests.support.site import ROOT

pytestmark = pytest.mark.nightly_names("*[daphne]")

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
    address = [part.format(port=site.port) for part in SERVERS[server]]
    site.web = site.start("web", "-m", server, *address, "asyncsite.asgi:application")
    await asyncio.to_thread(site.web.wait_until, site._responds, what="the server to respond")
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

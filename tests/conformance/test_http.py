"""The vectors of docs/reference/protocol/http.json, run against real servers."""

import asyncio
import json
import time

import aiohttp
import pytest

from tests.conformance import vectors
from tests.conformance.pattern import differences
from tests.conformance.runner import FRAME_TIMEOUT_SECONDS, Run, run_all

pytestmark = pytest.mark.nightly_names("*[uvicorn]")

API = "/notifications/api/"


class HttpRun(Run):
    """The run of one vector, with its own users and requests."""

    async def run(self, steps):
        self.requests = {}
        jar, timeout = aiohttp.DummyCookieJar(), aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout, connector=connector) as self.http:
            try:
                await super().run(steps)
            finally:
                for request in self.requests.values():
                    request.cancel()

    async def run_step(self, step):
        if "get" in step:
            self.requests[step.get("on", "a")] = self.start_get(step)
        elif "hang_up" in step:
            self.requests.pop(step["hang_up"]).cancel()
        elif step.keys().isdisjoint({"answer", "event", "rest", "ended"}):
            await super().run_step(step)
        else:
            await self.check_response(self.requests[step.get("on", "a")], step)

    def start_get(self, step):
        headers = {name: self.join(value) for name, value in step.get("headers", {}).items()}
        session = step.get("session", 0)
        if session is not None:
            key = self.users["me"]["sessions"][session] if isinstance(session, int) else session
            headers["Cookie"] = f"sessionid={key}"
        query = {name: str(value) for name, value in self.substitute(step.get("query", {})).items()}
        return Request(self.http.get(self.served.url + API + step["get"], params=query, headers=headers))

    async def check_response(self, request, step):
        started = time.monotonic()
        timeout = step.get("within_s", FRAME_TIMEOUT_SECONDS)
        try:
            async with asyncio.timeout(timeout + FRAME_TIMEOUT_SECONDS):
                found_differences = await self.find_differences(request, step)
        except TimeoutError:
            raise AssertionError(f"nothing received within {timeout + FRAME_TIMEOUT_SECONDS} s") from None
        assert not found_differences, "; ".join(found_differences)
        assert time.monotonic() - started >= step.get("from_s", 0), "too early"
        assert time.monotonic() - started <= timeout, "too late"

    async def find_differences(self, request, step):
        """Return how the response differs from the step."""
        if "answer" in step:
            actual, expected = await request.read_response(step["answer"]), step["answer"]
        elif "event" in step:
            actual, expected = await request.read_event(step["event"]), step["event"]
        elif "rest" in step:
            actual, expected = await request.read_rest(), step["rest"]
        else:
            actual, expected = await request.count_events(), {"events": 0}
        return list(differences(actual, expected, self.values, "response"))

    def join(self, value):
        """Substitute variables; join a list such as [epoch, seq] to "epoch:seq", the form of a header."""
        value = self.substitute(value)
        return ":".join(map(str, value)) if isinstance(value, list) else value


class Request:
    """A GET request, which starts immediately."""

    def __init__(self, response):
        self.task = asyncio.ensure_future(response)
        self.text, self.size = b"", 0

    async def read_response(self, expected):
        """Return the status, the expected headers, and the body if one is expected."""
        response = await self.task
        actual = {"status": response.status}
        if "headers" in expected:
            actual["headers"] = {name: response.headers.get(name) for name in expected["headers"]}
        if "body" in expected:
            body = await response.read()
            actual["body"] = json.loads(body) if body else None
        return actual

    async def read_event(self, expected):
        """Return the next event. Comments and the retry time are skipped unless expected."""
        while (event := await self.read_block()) is not None:
            if "data" in event or event.keys() == expected.keys():
                return event
        raise AssertionError("the response has ended")

    async def read_rest(self):
        """Read the response to its end. Returns its size in bytes and the id of its last event."""
        id = None
        while (event := await self.read_block()) is not None:
            id = event.get("id", id)
        return {"bytes": self.size, "id": id}

    async def count_events(self):
        """Read the response to its end. Returns its number of events."""
        count = 0
        while (event := await self.read_block()) is not None:
            count += "data" in event
        return {"events": count}

    async def read_block(self):
        """Return the next block of fields, with the id as [epoch, seq] and parsed data; None at the end."""
        response = await self.task
        while b"\n\n" not in self.text:
            chunk = await response.content.readany()
            if not chunk:
                return None
            self.text += chunk
            self.size += len(chunk)
        block, _, self.text = self.text.partition(b"\n\n")
        fields = dict(line.partition(":")[::2] for line in block.decode().split("\n"))
        event = {name or "comment": value.removeprefix(" ") for name, value in fields.items()}
        if "id" in event:
            epoch, _, seq = event["id"].rpartition(":")
            event["id"] = [epoch, int(seq)]
        if "data" in event:
            event["data"] = json.loads(event["data"])
        return event

    def cancel(self):
        self.task.cancel()
        if self.task.done() and not self.task.cancelled() and not self.task.exception():
            self.task.result().close()


VECTORS = vectors.load_for_servers("http.json")


@pytest.mark.timeout(180)
async def test_http_vectors(served):
    """Each response and event matches the pattern of its vector."""
    failures = await run_all(served, VECTORS, HttpRun)
    assert not failures, failures

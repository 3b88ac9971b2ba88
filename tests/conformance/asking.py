"""Runs the vectors of the HTTP side: what runner.py does, and requests with their answers and events."""

import asyncio
import json
import time

import aiohttp

from tests.conformance.pattern import differences
from tests.conformance.runner import PATIENCE, Run

API = "/notifications/api/"


class Asking(Run):
    """One vector, with users and requests of its own."""

    async def run(self, steps):
        self.requests = {}
        jar, timeout = aiohttp.DummyCookieJar(), aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout, connector=connector) as self.http:
            try:
                await super().run(steps)
            finally:
                for request in self.requests.values():
                    request.hang_up()

    async def step(self, step):
        if "get" in step:
            self.requests[step.get("on", "a")] = self.get(step)
        elif "hang_up" in step:
            self.requests.pop(step["hang_up"]).hang_up()
        elif step.keys().isdisjoint({"answer", "event", "rest", "ended"}):
            await super().step(step)
        else:
            await self.look(self.requests[step.get("on", "a")], step)

    def get(self, step):
        headers = {name: self.joined(value) for name, value in step.get("headers", {}).items()}
        session = step.get("session", 0)
        if session is not None:
            key = self.people["me"]["sessions"][session] if isinstance(session, int) else session
            headers["Cookie"] = f"sessionid={key}"
        query = {name: str(value) for name, value in self.filled_in(step.get("query", {})).items()}
        return Request(self.http.get(self.served.url + API + step["get"], params=query, headers=headers))

    async def look(self, request, step):
        began = time.monotonic()
        within = step.get("within_s", PATIENCE)
        try:
            async with asyncio.timeout(within + PATIENCE):
                wrong = await self.wrong(request, step)
        except TimeoutError:
            raise AssertionError(f"nothing came within {within + PATIENCE} s") from None
        assert not wrong, "; ".join(wrong)
        assert time.monotonic() - began >= step.get("from_s", 0), "too early"
        assert time.monotonic() - began <= within, "too late"

    async def wrong(self, request, step):
        """What is not as the step says."""
        if "answer" in step:
            found, expected = await request.answer(step["answer"]), step["answer"]
        elif "event" in step:
            found, expected = await request.event(step["event"]), step["event"]
        elif "rest" in step:
            found, expected = await request.rest(), step["rest"]
        else:
            found, expected = await request.ended(), {"events": 0}
        return list(differences(found, expected, self.known, "it"))

    def joined(self, value):
        value = self.filled_in(value)
        return ":".join(map(str, value)) if isinstance(value, list) else value


class Request:
    """A GET, under way at once."""

    def __init__(self, asked):
        self.task = asyncio.ensure_future(asked)
        self.text, self.size = b"", 0

    async def answer(self, expected):
        """Status, those headers that are expected, and the body if one is."""
        response = await self.task
        found = {"status": response.status}
        if "headers" in expected:
            found["headers"] = {name: response.headers.get(name) for name in expected["headers"]}
        if "body" in expected:
            body = await response.read()
            found["body"] = json.loads(body) if body else None
        return found

    async def event(self, expected):
        """The next event; comments and the time to come back are passed over unless expected."""
        while (event := await self.next()) is not None:
            if "data" in event or event.keys() == expected.keys():
                return event
        raise AssertionError("the response has ended")

    async def rest(self):
        """Bytes of the whole response, which ends, and the id of its last event."""
        id = None
        while (event := await self.next()) is not None:
            id = event.get("id", id)
        return {"bytes": self.size, "id": id}

    async def ended(self):
        count = 0
        while (event := await self.next()) is not None:
            count += "data" in event
        return {"events": count}

    async def next(self):
        """A block of fields, an id as [epoch, seq], data parsed; None at the end."""
        response = await self.task
        while b"\n\n" not in self.text:
            some = await response.content.readany()
            if not some:
                return None
            self.text += some
            self.size += len(some)
        block, _, self.text = self.text.partition(b"\n\n")
        fields = dict(line.partition(":")[::2] for line in block.decode().split("\n"))
        event = {name or "comment": value.removeprefix(" ") for name, value in fields.items()}
        if "id" in event:
            epoch, _, seq = event["id"].rpartition(":")
            event["id"] = [epoch, int(seq)]
        if "data" in event:
            event["data"] = json.loads(event["data"])
        return event

    def hang_up(self):
        self.task.cancel()
        if self.task.done() and not self.task.cancelled() and not self.task.exception():
            self.task.result().close()

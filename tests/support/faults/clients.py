"""Clients that follow their user's stream over reconnects, and record what they received."""

import asyncio
import contextlib
import json
from http import HTTPStatus

import aiohttp

from tests.support.follower import Follower

#: Close codes that a correct client must never receive.
UNEXPECTED_CODES = (4400, 4401, 4409, 4429)
API = "/notifications/api"
NO_LIMIT = aiohttp.ClientTimeout(total=None)


class Client(Follower):
    """A client that runs until cancelled.

    `received`: ids of notifications in the order in which they first arrived; `failures`: violations of the protocol.
    """

    def __init__(self, user, session, urls, chance):
        super().__init__()
        self.user, self.session, self.urls, self.rng = user, session, urls, chance
        self.received, self.failures = [], []
        self.raised = 0
        self.received_versions = set()  # (id, seq)

    def __str__(self):
        return f"{type(self).__name__} of {self.user}"

    async def run(self):
        async with aiohttp.ClientSession(cookies={"sessionid": self.session}, timeout=NO_LIMIT) as http:
            while True:
                with contextlib.suppress(
                    aiohttp.ClientError, OSError
                ):  # The connection was cut, or the server killed.
                    await self.follow(http, self.rng.choice(self.urls))
                # The protocol says up to 3 s. A shorter delay finds more faults.
                await asyncio.sleep(self.rng.random() * 0.3)

    async def follow(self, http, url):
        """Use one connection until it ends."""
        raise NotImplementedError

    def _apply(self, frame):
        is_applied = super()._apply(frame)
        if is_applied and frame["op"] != "jobs":
            self.record(frame)
        return is_applied

    def record(self, frame):
        """Check that each version arrives once, and new notifications in the order in which they were raised."""
        for item in frame["items"]:
            version = (item["id"], item["seq"])
            if version in self.received_versions:
                self.failures.append(f"{version} arrived twice")
            self.received_versions.add(version)
            if item["kind"] == "notification" and item["id"] not in self.received:
                if item["raised"] <= self.raised:
                    self.failures.append(
                        f"{item['id']}, raised {item['raised']}, arrived after {self.raised}"
                    )
                self.raised = item["raised"]
                self.received.append(item["id"])


class WebSocketClient(Client):
    async def follow(self, http, url):
        async with http.ws_connect(
            f"{url}/ws/notifications/", headers={"Origin": url}, protocols=["notifications.v1"]
        ) as socket:
            await socket.send_json(self.hello())
            async for message in socket:
                for frame in self.receive(json.loads(message.data)):
                    await socket.send_json(frame)
        if socket.close_code in UNEXPECTED_CODES:
            self.failures.append(f"closed with {socket.close_code}: {self.bye}")


class HttpClient(Client):
    """A client that cannot send frames to fill a gap, so that there must be none."""

    def receive(self, frame):
        if super().receive(frame):
            self.failures.append(f"{frame['prev']} to {frame['seq']} arrived at {self.cursor}")
        if frame["op"] == "bye" and frame["code"] in UNEXPECTED_CODES:
            self.failures.append(f"received {frame}")

    def has_status(self, response, *expected):
        """Return whether the status is expected. 503 is no failure: the database may be down."""
        if response.status not in (*expected, HTTPStatus.SERVICE_UNAVAILABLE):
            self.failures.append(f"status {response.status}")
        return response.status in expected


class EventSource(HttpClient):
    """A client of Server-Sent Events that, like a browser, remembers only the id of the last complete event."""

    last_id = None

    async def follow(self, http, url):
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        async with http.get(f"{url}{API}/events/", headers=headers) as response:
            if not self.has_status(response, HTTPStatus.OK):
                return
            text = b""
            async for chunk in response.content.iter_any():
                *events, text = (text + chunk).split(b"\n\n")
                for event in events:
                    self.dispatch(event.decode())

    def dispatch(self, event):
        fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
        if "data" in fields:
            self.receive(json.loads(fields["data"]))
        if "id" in fields:
            self.last_id = fields["id"]
            if self.last_id != f"{self.epoch}:{self.cursor}":
                self.failures.append(f"{self.last_id} is the id at {self.epoch}:{self.cursor}")


class LongPoll(HttpClient):
    """A client of GET sync/, with one request for each connection, to any server."""

    etag = None

    async def follow(self, http, url):
        query = {} if self.cursor is None else {"epoch": self.epoch, "seq": str(self.cursor)}
        headers = {"Prefer": "wait=20"} | ({"If-None-Match": self.etag} if self.etag else {})
        async with http.get(f"{url}{API}/sync/", params=query, headers=headers) as response:
            if self.has_status(response, HTTPStatus.OK, HTTPStatus.NOT_MODIFIED):
                if response.status == HTTPStatus.OK:
                    self.receive(await response.json())
                self.etag = response.headers["ETag"]


#: The clients of each user.
CLIENTS = (WebSocketClient, WebSocketClient, EventSource, LongPoll)

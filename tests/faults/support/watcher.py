"""Clients that follow their user's stream whatever happens to the connection, and remember what they were told."""

import asyncio
import contextlib
import json
from http import HTTPStatus

import aiohttp

from tests.support.follower import Follower

#: Ends after which something is wrong with the client, or with what it was told of itself.
NEVER = (4400, 4401, 4409, 4429)
API = "/notifications/api"
NO_LIMIT = aiohttp.ClientTimeout(total=None)


class Watcher(Follower):
    """`run()` until cancelled. `told`: ids of notifications as they were first met; `wrong`: what broke the law."""

    def __init__(self, user, session, urls, chance):
        super().__init__()
        self.user, self.session, self.urls, self.chance = user, session, urls, chance
        self.told, self.wrong = [], []
        self.raised = 0
        self.taken = set()  # (id, seq) of everything it was sent

    def __str__(self):
        return f"{type(self).__name__} of {self.user}"

    async def run(self):
        async with aiohttp.ClientSession(cookies={"sessionid": self.session}, timeout=NO_LIMIT) as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError):  # cut, or its server was killed
                    await self.follow(http, self.chance.choice(self.urls))
                # The protocol says up to 3 s; sooner finds more.
                await asyncio.sleep(self.chance.random() * 0.3)

    async def follow(self, http, url):
        """One connection, to its end."""
        raise NotImplementedError

    def _apply(self, frame):
        taken = super()._apply(frame)
        if taken and frame["op"] != "jobs":
            self.remember(frame)
        return taken

    def remember(self, frame):
        """Everything comes once, and new notifications in the order in which they were raised."""
        for item in frame["items"]:
            what = (item["id"], item["seq"])
            if what in self.taken:
                self.wrong.append(f"{what} came twice")
            self.taken.add(what)
            if item["kind"] == "notification" and item["id"] not in self.told:
                if item["raised"] <= self.raised:
                    self.wrong.append(f"{item['id']}, raised {item['raised']}, came after {self.raised}")
                self.raised = item["raised"]
                self.told.append(item["id"])


class Socket(Watcher):
    """At a WebSocket."""

    async def follow(self, http, url):
        async with http.ws_connect(
            f"{url}/ws/notifications/", headers={"Origin": url}, protocols=["notifications.v1"]
        ) as socket:
            await socket.send_json(self.hello())
            async for message in socket:
                for answer in self.take(json.loads(message.data)):
                    await socket.send_json(answer)
        if socket.close_code in NEVER:
            self.wrong.append(f"closed with {socket.close_code}: {self.bye}")


class WithoutSocket(Watcher):
    """At the HTTP side, where nothing can be sent that mends a gap: there must be none."""

    def take(self, frame):
        if super().take(frame):
            self.wrong.append(f"{frame['prev']} to {frame['seq']} came at {self.cursor}")
        if frame["op"] == "bye" and frame["code"] in NEVER:
            self.wrong.append(f"was sent away: {frame}")

    def is_answered(self, response, *good):
        """Whether it is one of these; 503 is good too, while the database is away."""
        if response.status not in (*good, HTTPStatus.SERVICE_UNAVAILABLE):
            self.wrong.append(f"was answered {response.status}")
        return response.status in good


class EventSource(WithoutSocket):
    """At Server-Sent Events, as a browser is: it knows nothing but the id of the last whole event."""

    last_id = None

    async def follow(self, http, url):
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        async with http.get(f"{url}{API}/events/", headers=headers) as response:
            if not self.is_answered(response, HTTPStatus.OK):
                return
            text = b""
            async for some in response.content.iter_any():
                *events, text = (text + some).split(b"\n\n")
                for event in events:
                    self.dispatch(event.decode())

    def dispatch(self, event):
        fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
        if "data" in fields:
            self.take(json.loads(fields["data"]))
        if "id" in fields:
            self.last_id = fields["id"]
            if self.last_id != f"{self.epoch}:{self.cursor}":
                self.wrong.append(f"{self.last_id} is the id at {self.epoch}:{self.cursor}")


class LongPoll(WithoutSocket):
    """At GET sync/, one question a connection, each to any server."""

    etag = None

    async def follow(self, http, url):
        query = {} if self.cursor is None else {"epoch": self.epoch, "seq": str(self.cursor)}
        headers = {"Prefer": "wait=20"} | ({"If-None-Match": self.etag} if self.etag else {})
        async with http.get(f"{url}{API}/sync/", params=query, headers=headers) as response:
            if self.is_answered(response, HTTPStatus.OK, HTTPStatus.NOT_MODIFIED):
                if response.status == HTTPStatus.OK:
                    self.take(await response.json())
                self.etag = response.headers["ETag"]


#: What a user has open.
WATCHERS = (Socket, Socket, EventSource, LongPoll)

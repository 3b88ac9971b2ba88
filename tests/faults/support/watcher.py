"""A client that follows its user's stream whatever happens to the connection, and remembers what it was told."""

import asyncio
import json

import aiohttp

from tests.support.follower import Follower

#: Ends after which something is wrong with the client, or with what it was told of itself.
NEVER = (4400, 4401, 4409, 4429)


class Watcher(Follower):
    """`run()` until cancelled. `told`: ids of notifications as they were first met; `wrong`: what broke the law."""

    def __init__(self, user, session, urls, chance):
        super().__init__()
        self.user, self.session, self.urls, self.chance = user, session, urls, chance
        self.told, self.wrong = [], []
        self.raised = 0
        self.taken = set()  # (id, seq) of everything it was sent
        self.connections = 0

    async def run(self):
        cookies = {"sessionid": self.session}
        async with aiohttp.ClientSession(cookies=cookies) as session:
            while True:
                code = await self.follow(session, self.chance.choice(self.urls))
                if code in NEVER:
                    self.wrong.append(f"closed with {code}: {self.bye}")
                # The protocol says up to 3 s; sooner finds more.
                await asyncio.sleep(self.chance.random() * 0.3)

    async def follow(self, session, url):
        """One connection, to its end; returns the close code."""
        where = f"{url}/ws/notifications/"
        try:
            async with session.ws_connect(
                where, headers={"Origin": url}, protocols=["notifications.v1"], heartbeat=None
            ) as socket:
                self.connections += 1
                await socket.send_json(self.hello())
                async for message in socket:
                    for answer in self.take(json.loads(message.data)):
                        await socket.send_json(answer)
                return socket.close_code
        except (aiohttp.ClientError, OSError):
            return 1006

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

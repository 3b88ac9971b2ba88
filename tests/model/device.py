"""A model client with a network that loses everything under way when it is cut."""

import asyncio
import json
from collections import deque

from notifications import serializers
from notifications.realtime import frames, reader
from notifications.realtime.transports.consumers import notifications_socket
from tests.support.follower import Follower

FINAL = (4400, 4401, 4409)


class Device:
    """One browser of a user: what it holds outlives its connections."""

    def __init__(self, loop, user):
        self.loop = loop
        self.user = user
        self.follower = Follower()
        self.line = None
        self.kept = deque(maxlen=8)  # frames of before, which may come again
        self.late = None  # an answer over HTTP that is under way, and how often it had been reset then

    def connect(self):
        if self.line is None:
            self.line = Line(self.loop, self.user)
            self.line.up.append(self.follower.hello())

    def cut(self):
        if self.line:
            self.line.cut()
            self.line = None

    def exchange(self, count):
        """So many messages arrive at each end."""
        line = self.line
        if line is None:
            return
        for _ in range(min(count, len(line.up))):
            line.say(line.up.popleft())
        self.loop.settle()
        for _ in range(min(count, len(line.down))):
            message = line.down.popleft()
            if message["type"] == "websocket.close":
                assert message["code"] not in FINAL, f"Closed with {message['code']}, for good."
                self.line = None
                return
            if message["type"] == "websocket.send":
                self.receive(json.loads(message["text"]))

    def receive(self, frame):
        line = self.line
        line.check(frame)
        if frame.get("reset"):
            self.kept.clear()
        else:
            self.kept.append({key: value for key, value in frame.items() if key != "ack"})
        line.up.extend(self.follower.receive(frame))
        self.read_jobs()

    def again(self, nth):
        """A frame of before comes once more; its answer is dropped where there is no connection."""
        if self.kept:
            answers = self.follower.receive(self.kept[nth % len(self.kept)])
            if self.line:
                self.line.up.extend(answers)
            self.read_jobs()

    def ask(self):
        """Ask over HTTP; the answer is under way."""
        follower = self.follower
        text = frames.encode_unnumbered(reader.read_sync(self.user.pk, follower.epoch, follower.cursor).frame)
        self.late = (json.loads(text), follower.resets)

    def hear_answer(self):
        if self.late and self.late[1] == self.follower.resets:
            frame = self.late[0]
            if frame["reset"]:
                self.kept.clear()
            self.follower.receive(frame)
            self.read_jobs()
        self.late = None

    def read_jobs(self):
        """GET the active jobs that a last sync did not have; what is gone is forgotten."""
        from notifications.models import Job

        asks, self.follower.paths_to_fetch = self.follower.paths_to_fetch, []
        for path in asks:
            id = path.rstrip("/").rpartition("/")[2]
            row = Job.objects.filter(pk=id, user=self.user).first()
            if row:
                self.follower.apply_item(json.loads(serializers.encode(serializers.serialize(row))))
            else:
                del self.follower.jobs[id]


class Line:
    """One connection: `up` and `down` are under way."""

    def __init__(self, loop, user):
        self.loop = loop
        self.up, self.down = deque(), deque()
        self.incoming = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.last = {"n": 0, "seq": None}
        self.asked = 0  # syncs asked for
        scope = {
            "type": "websocket",
            "path": "/ws/notifications/",
            "headers": [(b"host", b"testserver"), (b"origin", b"http://testserver")],
            "user": user,
        }
        self.task = loop.create_task(notifications_socket(scope, self.incoming.get, self.send))

    async def send(self, message):
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        self.down.append(message)

    def say(self, frame):
        self.asked += frame["op"] == "sync"
        self.incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def cut(self):
        self.up.clear()
        self.down.clear()
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.loop.settle()

    def check(self, frame):
        """What holds within a connection: n counts, and prev is the seq before it but in an answer to a sync."""
        if "n" in frame:
            assert frame["n"] == self.last["n"] + 1, frame
            self.last["n"] = frame["n"]
        if frame["op"] not in ("sync", "change"):
            return
        follows = self.last["seq"] is None or frame["prev"] == self.last["seq"]
        if not follows and not frame.get("reset"):
            assert frame["op"] == "sync" and self.asked > 0, (
                f"{frame['prev']} does not follow {self.last['seq']}."
            )
        self.last["seq"] = frame["seq"]
        seqs = [item["raised" if frame.get("reset") else "seq"] for item in frame["items"]]
        assert seqs == sorted(seqs), seqs

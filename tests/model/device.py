"""A client of the model, whose network loses all frames in transit when it is disconnected."""

import asyncio
import json
from collections import deque

from django.test import Client

from notifications import serializers
from notifications.http import encode_json
from notifications.models import Job
from notifications.routing import websocket_urlpatterns
from tests.support.follower import FINAL_CODES, Follower


class Device:
    """One browser of a user. Its `follower` outlives its connections."""

    def __init__(self, loop, user):
        self.loop = loop
        self.user = user
        self.client = Client()
        self.client.force_login(user)
        self.follower = Follower()
        self.connection = None
        self.recent_frames = deque(maxlen=8)  # may be received a second time
        self.pending_response = (
            None  # a sync frame of HTTP, and the number of resets at the time of the request
        )

    def connect(self):
        if self.connection is None:
            self.connection = DeviceConnection(self.loop, self.user)
            self.connection.to_server.append(self.follower.hello())

    def disconnect(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def exchange(self, count):
        """Deliver at most `count` messages in each direction."""
        connection = self.connection
        if connection is None:
            return
        for _ in range(min(count, len(connection.to_server))):
            connection.deliver_to_server(connection.to_server.popleft())
        self.loop.settle()
        for _ in range(min(count, len(connection.to_client))):
            message = connection.to_client.popleft()
            if message["type"] == "websocket.close":
                assert message["code"] not in FINAL_CODES, f"Closed with the final code {message['code']}."
                self.connection = None
                return
            if message["type"] == "websocket.send":
                self.receive(json.loads(message["text"]))

    def receive(self, frame):
        connection = self.connection
        connection.check(frame)
        if frame.get("reset"):
            self.recent_frames.clear()
        else:
            self.recent_frames.append({key: value for key, value in frame.items() if key != "ack"})
        connection.to_server.extend(self.follower.receive(frame))
        self.fetch_missing_jobs()

    def receive_again(self, nth):
        """Receive a recent frame a second time. Without a connection, the frames in response are dropped."""
        if self.recent_frames:
            responses = self.follower.receive(self.recent_frames[nth % len(self.recent_frames)])
            if self.connection:
                self.connection.to_server.extend(responses)
            self.fetch_missing_jobs()

    def request_sync(self):
        """Send GET sync/. The response is in transit until receive_response()."""
        position = {"epoch": self.follower.epoch or "", "cursor": self.follower.cursor or 0}
        response = self.client.get("/notifications/api/sync/", position)
        self.pending_response = (response.json(), self.follower.resets)

    def receive_response(self):
        if self.pending_response and self.pending_response[1] == self.follower.resets:
            frame = self.pending_response[0]
            if frame["reset"]:
                self.recent_frames.clear()
            self.follower.receive(frame)
            self.fetch_missing_jobs()
        self.pending_response = None

    def fetch_missing_jobs(self):
        """GET the active jobs that the last sync did not list, and forget those that do not exist."""
        paths, self.follower.paths_to_fetch = self.follower.paths_to_fetch, []
        for path in paths:
            id = path.rstrip("/").rpartition("/")[2]
            row = Job.objects.filter(pk=id, user=self.user).first()
            if row:
                self.follower.apply_item(json.loads(encode_json(serializers.serialize(row))))
            else:
                del self.follower.jobs[id]


class DeviceConnection:
    """One WebSocket. `to_server` and `to_client` are the messages in transit."""

    def __init__(self, loop, user):
        self.loop = loop
        self.to_server, self.to_client = deque(), deque()
        self.incoming = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.last_n, self.last_seq = 0, None
        self.requested_syncs = 0
        scope = {
            "type": "websocket",
            "path": "/ws/notifications/",
            "headers": [(b"host", b"testserver"), (b"origin", b"http://testserver")],
            "user": user,
        }
        self.task = loop.create_task(websocket_urlpatterns[0].callback(scope, self.incoming.get, self.send))

    async def send(self, message):
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        self.to_client.append(message)

    def deliver_to_server(self, frame):
        self.requested_syncs += frame["op"] == "sync"
        self.incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def close(self):
        self.to_server.clear()
        self.to_client.clear()
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.loop.settle()

    def check(self, frame):
        """Check that `n` counts frames, `prev` is the last seq unless a sync was requested, and items are ordered."""
        if "n" in frame:
            assert frame["n"] == self.last_n + 1, frame
            self.last_n = frame["n"]
        if frame["op"] not in ("sync", "change"):
            return
        follows = self.last_seq is None or frame["prev"] == self.last_seq
        if not follows and not frame.get("reset"):
            assert frame["op"] == "sync" and self.requested_syncs > 0, (
                f"{frame['prev']} does not follow {self.last_seq}."
            )
        self.last_seq = frame["seq"]
        seqs = [item["raised" if frame.get("reset") else "seq"] for item in frame["items"]]
        assert seqs == sorted(seqs), seqs

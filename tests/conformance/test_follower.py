"""The client vectors of docs/reference/protocol, run against the client that our other tests follow the server with."""

import pytest

from tests.conformance import vectors
from tests.support.follower import Follower

VECTORS = vectors.load("client.json")["vectors"]


class Run:
    """One vector, step by step, without a network and without a clock."""

    def __init__(self, start):
        self.follower = Follower(**start)
        self.sent, self.got, self.http = [], [], {}

    def open(self, _):
        self.sent.append(self.follower.hello())

    def server(self, frame):
        self.sent += self.follower.take(frame)
        asks, self.follower.asks = self.follower.asks, []
        self.got += asks
        for path in asks:
            if path in self.http:
                self.follower.hold(self.http[path])

    def client(self, frames):
        assert sorted(self.sent, key=str) == sorted(frames, key=str)
        self.sent = []

    def holds(self, expected):
        follower = self.follower
        held = {
            "epoch": follower.epoch,
            "cursor": follower.cursor,
            "unread": follower.unread,
            "notifications": {id: item["seq"] for id, item in follower.notifications.items()},
            "jobs": {id: item["version"] for id, item in follower.jobs.items()},
        }
        assert {key: held[key] for key in expected} == expected

    def item(self, expected):
        item = (self.follower.notifications | self.follower.jobs)[expected["id"]]
        assert {key: item[key] for key in expected} == expected

    def gets(self, paths):
        assert self.got == paths
        self.got = []

    def end(self, code, comes_back):
        wait = self.follower.ended(code)
        assert (wait is None) == (comes_back is None)
        if wait:
            assert comes_back[0] <= wait[0] <= wait[1] <= comes_back[1]


@pytest.mark.parametrize("vector", VECTORS, ids=vectors.names(VECTORS))
def test_client_vector(vector):
    """Frames out, cursor, unread count and rows after it are as the vector says."""
    run = Run(vector["start"])
    for step in vector["steps"]:
        if "silent_ms" in step:
            continue  # this client has no clock
        if "http" in step:
            run.http |= step["http"]
        elif "end" in step:
            run.end(step["end"], step["comes_back"])
        else:
            ((verb, told),) = step.items()
            getattr(run, verb)(told)

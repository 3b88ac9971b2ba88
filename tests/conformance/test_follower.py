"""The client vectors of docs/reference/protocol, run against tests/support/follower.py."""

import pytest

from tests.conformance import vectors
from tests.support.follower import Follower

VECTORS = vectors.load("client.json")["vectors"]


class Run:
    """The run of one vector, without network and clock. Its methods have the names of the steps."""

    def __init__(self, start):
        self.follower = Follower(**start)
        self.sent, self.fetched, self.http = [], [], {}

    def open(self, _):
        self.sent.append(self.follower.hello())

    def server(self, frame):
        self.sent += self.follower.receive(frame)
        paths, self.follower.paths_to_fetch = self.follower.paths_to_fetch, []
        self.fetched += paths
        for path in paths:
            if path in self.http:
                self.follower.apply_item(self.http[path])

    def client(self, frames):
        assert sorted(self.sent, key=str) == sorted(frames, key=str)
        self.sent = []

    def holds(self, expected):
        follower = self.follower
        actual = {
            "epoch": follower.epoch,
            "cursor": follower.cursor,
            "unread": follower.unread,
            "unseen": follower.unseen,
            "notifications": {id: item["seq"] for id, item in follower.notifications.items()},
            "jobs": {id: item["version"] for id, item in follower.jobs.items()},
        }
        assert {key: actual[key] for key in expected} == expected

    def item(self, expected):
        item = (self.follower.notifications | self.follower.jobs)[expected["id"]]
        assert {key: item[key] for key in expected} == expected

    def gets(self, paths):
        assert self.fetched == paths
        self.fetched = []

    def end(self, code, comes_back):
        delay = self.follower.reconnect_delay(code)
        assert (delay is None) == (comes_back is None)
        if delay:
            assert comes_back[0] <= delay[0] <= delay[1] <= comes_back[1]


@pytest.mark.parametrize("vector", VECTORS, ids=vectors.names(VECTORS))
def test_client_vector(vector):
    """The client sends the frames and has the position and items that the vector gives."""
    run = Run(vector["start"])
    for step in vector["steps"]:
        if "silent_ms" in step:
            continue  # This client has no clock.
        if "http" in step:
            run.http |= step["http"]
        elif "end" in step:
            run.end(step["end"], step["comes_back"])
        else:
            ((name, argument),) = step.items()
            getattr(run, name)(argument)

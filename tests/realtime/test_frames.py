"""Frames as JSON text."""

import json

import pytest

from notifications.realtime import frames

pytestmark = pytest.mark.nightly_on_postgres


def test_size_is_in_bytes():
    """The size of a frame is that of its UTF-8 bytes, not its number of characters."""
    frame = frames.Frame("jobs", '"ä"}')
    assert frame.size(12) == len(frame.text(12, ack=False).encode())


def test_frame_for_http_has_no_number():
    """A frame for HTTP has the keys of a WebSocket frame except n, and no jobs if they are None."""
    frame = frames.sync("e1", None, 3, 2, 1, ["{}"], [])
    assert json.loads(frames.encode_unnumbered(frame)) == {
        "op": "sync",
        "epoch": "e1",
        "prev": None,
        "seq": 3,
        "reset": True,
        "more": False,
        "unread": 2,
        "unseen": 1,
        "items": [{}],
        "jobs": [],
    }
    assert "jobs" not in json.loads(frames.encode_unnumbered(frames.sync("e1", 1, 3, 2, 1, ["{}"], None)))

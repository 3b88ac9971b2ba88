"""What a reader of output gets."""

from notifications.contrib.output import readers
from notifications.contrib.output.readers import next_cursor


def test_cursors(monkeypatch):
    """They count intervals of 20 s, and one that the client has is never repeated."""
    monkeypatch.setattr(readers.time, "time", lambda: 1_728_432_000 + 20 * 1_000 + 7)
    assert next_cursor("") == next_cursor("999") == next_cursor("x") == "1000"
    assert 1_000 < int(next_cursor("1000")) <= 1_180
    assert int(next_cursor("5000")) > 5_000

"""The line of progress of commands that may take long."""

import time
from io import StringIO

import pytest

from notifications.management import output
from notifications.management.output import ProgressLine


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A list whose only item is the time in seconds."""
    moments = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moments[0])
    return moments


def test_the_line_is_written_at_intervals_and_removed(clock):
    with ProgressLine("users", 100_000, terminal := Terminal()) as progress:
        progress.add(12_000)
        progress.add(1)  # too soon after the last line
        clock[0] += output.PROGRESS_INTERVAL_SECONDS
        progress.add(500)
        assert terminal.getvalue() == "\r12,000 of 100,000 users\r12,501 of 100,000 users"
    assert terminal.getvalue().endswith(f"users\r{' ' * len('12,501 of 100,000 users')}\r")


def test_the_line_is_removed_after_an_error(clock):
    with (
        pytest.raises(KeyboardInterrupt),
        ProgressLine("rows deleted", stream=(terminal := Terminal())) as progress,
    ):
        progress.add(7)
        raise KeyboardInterrupt
    assert terminal.getvalue() == f"\r7 rows deleted\r{' ' * 14}\r"


def test_nothing_is_written_to_a_pipe(clock):
    with ProgressLine("users", 3, pipe := StringIO()) as progress:
        progress.add(3)
    assert pipe.getvalue() == ""

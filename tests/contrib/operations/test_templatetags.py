"""Numbers of the overview in words."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone, translation

from notifications.contrib.operations.statistics import Figures, Histogram
from notifications.contrib.operations.templatetags.notifications_operations import point_rows
from notifications.templatetags.notifications_formats import rate


@pytest.mark.parametrize(
    ("per_minute", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (1 / 10_080, "<0.01"),
        (1 / 60, "0.02"),
        (0.4, "0.4"),
        (0.96, "1"),
        (3, "3"),
        (9.94, "9.9"),
        (12.4, "12"),
        (12_345.6, "12,346"),
    ],
)
def test_rate(per_minute, text):
    """A rate above 0 is never shown as 0: a single job in an hour is not none."""
    assert rate(per_minute) == text


def test_rate_in_german():
    with translation.override("de"):
        assert (rate(0.4), rate(1 / 60), rate(0.001)) == ("0,4", "0,02", "<0,01")


def test_point_rows():
    """One row for each point with jobs, in the reader's time zone, with text that is escaped."""
    wait = Histogram()
    wait.counts[4:6] = 9, 1
    start = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    point = Figures(start=start, seconds=60_000, enqueued=1, failed=1200, wait=wait)
    points = [point, Figures(start=start)] * 2
    with timezone.override("Europe/Berlin"):
        rows = point_rows(points, "D H:i")
    cells = ["&lt;0.01", "1.2", "1,200", "12 ms", "24 ms", "30 ms", "-", "-", "-"]
    row = '<tr><th scope="row"><time datetime="2026-07-02T00:30:00+02:00">Thu 00:30</time></th>'
    assert rows == (row + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>") * 2

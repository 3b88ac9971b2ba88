"""Numbers of the overview in words."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone, translation

from notifications.contrib.operations.admin.overview.history import Durations, Point, Totals
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
    wait, run = Durations(p50=0.012, p95=1.5, p99=240.0), Durations(p50=2.0)
    totals = Totals(enqueued=1, in_rate=0.4, out_rate=1 / 1000, failed=1200, wait=wait, run=run)
    start = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    points = [Point(start=start, totals=totals), Point(start=start, totals=Totals())] * 2
    with timezone.override("Europe/Berlin"):
        rows = point_rows(points, "D H:i")
    cells = ["0.4", "&lt;0.01", "1,200", "12 ms", "1.5 s", "4 min", "2 s", "-", "-"]
    row = '<tr><th scope="row"><time datetime="2026-07-02T00:30:00+02:00">Thu 00:30</time></th>'
    assert rows == (row + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>") * 2

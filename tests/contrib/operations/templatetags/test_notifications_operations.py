"""What the charts of the overview show."""

from datetime import UTC, datetime

from django.utils import timezone

from notifications.contrib.operations.statistics import Figures, Histogram
from notifications.contrib.operations.templatetags.notifications_operations import point_rows


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

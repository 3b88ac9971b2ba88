"""When the windows of digests end."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from notifications.contrib.deliveries import (
    digests,
)
from notifications.contrib.deliveries.models import Reader

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("choice", "after", "expected"),
    [
        ("hourly", datetime(2026, 5, 1, 12, 59, 59, tzinfo=UTC), datetime(2026, 5, 1, 13, tzinfo=UTC)),
        ("hourly", datetime(2026, 5, 1, 13, tzinfo=UTC), datetime(2026, 5, 1, 14, tzinfo=UTC)),
        ("daily", datetime(2026, 5, 1, 1, tzinfo=PARIS), datetime(2026, 5, 1, 8, tzinfo=PARIS)),
        ("daily", datetime(2026, 5, 1, 8, tzinfo=PARIS), datetime(2026, 5, 2, 8, tzinfo=PARIS)),
        # Clocks are set forward and back in these nights.
        ("daily", datetime(2026, 3, 28, 9, tzinfo=PARIS), datetime(2026, 3, 29, 8, tzinfo=PARIS)),
        ("daily", datetime(2026, 10, 24, 9, tzinfo=PARIS), datetime(2026, 10, 25, 8, tzinfo=PARIS)),
        # A Friday.
        ("weekly", datetime(2026, 5, 1, 7, tzinfo=PARIS), datetime(2026, 5, 6, 8, tzinfo=PARIS)),
        ("weekly", datetime(2026, 5, 6, 8, tzinfo=PARIS), datetime(2026, 5, 13, 8, tzinfo=PARIS)),
    ],
)
def test_end_of_a_window(choice, after, expected):
    reader = Reader(time_zone="Europe/Paris", digest_hour=8, digest_day=2)
    assert digests.window_end(choice, reader, after) == expected


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=PARIS), datetime(2026, 10, 25, tzinfo=PARIS)])
def test_days_with_another_length_have_one_window(day, hour):
    reader = Reader(time_zone="Europe/Paris", digest_hour=hour)
    end = day - timedelta(days=2)
    ends = [end := digests.window_end("daily", reader, end) for _ in range(5)]
    assert len({each.astimezone(PARIS).date() for each in ends}) == 5

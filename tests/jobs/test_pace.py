"""The pace of a running job in words."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import translation

from notifications import times
from notifications.jobs.pace import describe_pace

pytestmark = [pytest.mark.any_database]

NOW = times.as_utc(times.now())


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(times, "now", lambda: NOW)


def pace(current, total, seconds, *, state="running", attempt=1):
    started_at = None if seconds is None else NOW - timedelta(seconds=seconds)
    return describe_pace(
        SimpleNamespace(
            state=state,
            attempt=attempt,
            progress_current=current,
            progress_total=total,
            started_at=started_at,
        )
    )


@pytest.mark.parametrize(
    ("current", "total", "seconds", "words"),
    [
        (42, 546, 10, "4.2 per second, about 2 min left"),
        (20000, 20100, 10, "2,000 per second, about 1 s left"),
        (10, 20, 60, "10 per minute, about 1 min left"),
        (5, 10, 25, "12 per minute, about 25 s left"),
        (1, 91, 60, "1 per minute, about 1.5 h left"),
    ],
)
def test_rate_and_time_left(current, total, seconds, words):
    assert pace(current, total, seconds) == words


@pytest.mark.parametrize(
    "values",
    [
        {"current": 3, "total": 9, "seconds": 4},
        {"current": 0, "total": 9, "seconds": 60},
        {"current": 9, "total": 9, "seconds": 60},
        {"current": 3, "total": None, "seconds": 60},
        {"current": None, "total": None, "seconds": 60},
        {"current": 3, "total": 9, "seconds": None},
        {"current": 3, "total": 9, "seconds": 60, "attempt": 2},
        {"current": 3, "total": 9, "seconds": 60, "state": "queued"},
    ],
)
def test_nothing_while_it_is_not_known(values):
    assert pace(**values) == ""


def test_it_is_in_the_active_language():
    with translation.override("de"):
        assert pace(42, 546, 10) == "4,2 pro Sekunde, noch etwa 2 Min."

"""The elapsed time and the pace of a running job in words."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import translation

from notifications import times
from notifications.jobs.info import describe_elapsed, describe_pace

pytestmark = [pytest.mark.any_database, pytest.mark.nightly_on_old_django]

NOW = times.as_utc(times.now())


@pytest.fixture(autouse=True)
def clock(set_now):
    set_now(NOW)


def pace(current, total, seconds, *, state="running", attempt=1, cancel_requested_at=None):
    started_at = None if seconds is None else NOW - timedelta(seconds=seconds)
    return describe_pace(
        SimpleNamespace(
            state=state,
            attempt=attempt,
            progress_current=current,
            progress_total=total,
            started_at=started_at,
            cancel_requested_at=cancel_requested_at,
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
        {"current": 3, "total": 9, "seconds": 60, "cancel_requested_at": NOW},
    ],
)
def test_nothing_while_it_is_not_known(values):
    assert pace(**values) == ""


def test_it_is_in_the_active_language():
    with translation.override("de"):
        assert pace(42, 546, 10) == "4,2 pro Sekunde, noch etwa 2 Min."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Running for 0 s"),
        (59, "Running for 59 s"),
        (60, "Running for 1 min"),
        (239, "Running for 3 min"),
        (3600, "Running for 1 h"),
        (108_000, "Running for 30 h"),
        (-20, "Running for 0 s"),
    ],
)
def test_elapsed_time(seconds, words):
    """The words are those of the client (tests/js/localization.test.js), also where the clock is behind."""
    started_at = NOW - timedelta(seconds=seconds)
    assert describe_elapsed(SimpleNamespace(state="running", started_at=started_at)) == words


@pytest.mark.parametrize("values", [{"state": "queued"}, {"state": "succeeded"}, {"started_at": None}])
def test_no_elapsed_time_unless_it_runs(values):
    assert describe_elapsed(SimpleNamespace(**{"state": "running", "started_at": NOW, **values})) == ""


def test_elapsed_time_is_in_the_active_language():
    with translation.override("de"):
        job = SimpleNamespace(state="running", started_at=NOW - timedelta(minutes=3))
        assert describe_elapsed(job) == "Läuft seit 3 Min."

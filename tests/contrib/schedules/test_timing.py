"""When schedules are due: at both changes of clocks, after long outages, and for hostile expressions."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from notifications.contrib.schedules.timing import MAX_COUNTED_TICKS, Timing

pytestmark = pytest.mark.nightly_on_postgres

#: Zones with the days on which clocks are set forward and back.
CHANGES = [
    ("Europe/Berlin", datetime(2027, 3, 28), datetime(2027, 10, 31)),
    ("America/New_York", datetime(2027, 3, 14), datetime(2027, 11, 7)),
    ("Australia/Lord_Howe", datetime(2027, 10, 3), datetime(2027, 4, 4)),  # by half an hour
    ("Africa/Cairo", datetime(2027, 4, 30), datetime(2027, 10, 29)),  # at midnight
]


def local_ticks(cron, zone, day, days=1):
    """Return the ticks of some local days, as local times, asked for one after the other as a process does."""
    tz = ZoneInfo(zone)
    moment = day.replace(tzinfo=tz).astimezone(UTC) - timedelta(microseconds=1)
    end = (day + timedelta(days=days)).replace(tzinfo=tz).astimezone(UTC)
    ticks = []
    while (moment := Timing(cron=cron, zone=zone).next_tick(moment)) < end:
        ticks.append(moment)
    assert all(first < second for first, second in pairwise(ticks))
    return [tick.astimezone(tz) for tick in ticks]


def naive(ticks):
    return [tick.strftime("%d %H:%M") for tick in ticks]


def test_a_time_that_does_not_exist_runs_right_after_the_change():
    """2:30 is skipped when Berlin sets its clocks from 2:00 to 3:00, and the job runs at 3:00, once."""
    assert naive(local_ticks("30 2 * * *", "Europe/Berlin", datetime(2027, 3, 27), 3)) == [
        "27 02:30",
        "28 03:00",
        "29 02:30",
    ]
    assert naive(local_ticks("0,30 2 * * *", "Europe/Berlin", datetime(2027, 3, 28))) == ["28 03:00"]
    assert naive(local_ticks("15 2 * * *", "Australia/Lord_Howe", datetime(2027, 10, 3))) == ["03 02:30"]
    assert naive(local_ticks("30 0 * * *", "Africa/Cairo", datetime(2027, 4, 29), 2)) == [
        "29 00:30",
        "30 01:00",
    ]


def test_a_time_that_comes_twice_runs_once():
    """2:30 comes twice when Berlin sets its clocks back from 3:00 to 2:00: the job runs the first time."""
    [tick] = local_ticks("30 2 * * *", "Europe/Berlin", datetime(2027, 10, 31))
    assert tick.utcoffset() == timedelta(hours=2)
    [tick] = local_ticks("30 1 * * *", "America/New_York", datetime(2027, 11, 7))
    assert tick.utcoffset() == timedelta(hours=-4)
    [tick] = local_ticks("45 1 * * *", "Australia/Lord_Howe", datetime(2027, 4, 4))
    assert tick.utcoffset() == timedelta(hours=11)
    [tick] = local_ticks("30 23 * * *", "Africa/Cairo", datetime(2027, 10, 28))
    assert tick.utcoffset() == timedelta(hours=3)


@pytest.mark.parametrize(("zone", "forward", "back"), CHANGES)
def test_once_a_day_on_both_days(zone, forward, back):
    """Whatever the hour, a daily job runs once on the day of a change."""
    for day in (forward, back):
        for hour in range(24):
            dates = [
                tick.date() for tick in local_ticks(f"20 {hour} * * *", zone, day - timedelta(days=1), 3)
            ]
            assert dates == [(day + timedelta(days=n)).date() for n in (-1, 0, 1)], hour


@pytest.mark.parametrize(("zone", "forward", "back"), CHANGES)
def test_each_minute_in_real_time(zone, forward, back):
    """A job of each ten minutes has ticks ten minutes apart, through both changes."""
    for day in (forward, back):
        ticks = [tick.astimezone(UTC) for tick in local_ticks("*/10 * * * *", zone, day)]
        assert {second - first for first, second in pairwise(ticks)} == {timedelta(minutes=10)}


def test_next_tick_within_the_repeated_hour():
    """A process that starts in the second 2:10 of Berlin finds tomorrow, not 2:30 of the first time."""
    second_time = datetime(2027, 10, 31, 1, 10, tzinfo=UTC)
    tick = Timing(cron="30 2 * * *", zone="Europe/Berlin").next_tick(second_time)
    assert tick == datetime(2027, 11, 1, 1, 30, tzinfo=UTC)


def test_intervals_are_the_same_in_all_processes():
    """They are multiples from one moment, a Monday."""
    moment = datetime(2026, 11, 18, 10, 3, 7, tzinfo=UTC)
    assert Timing(every=timedelta(minutes=10)).next_tick(moment) == datetime(2026, 11, 18, 10, 10, tzinfo=UTC)
    assert Timing(every=timedelta(weeks=1)).next_tick(moment) == datetime(2026, 11, 23, tzinfo=UTC)
    on_tick = datetime(2026, 11, 18, 10, 10, tzinfo=UTC)
    assert Timing(every=timedelta(minutes=10)).next_tick(on_tick) == on_tick + timedelta(minutes=10)


@pytest.mark.parametrize(
    "timing",
    [
        Timing(every=timedelta(seconds=1)),
        Timing(cron="* * * * *", zone="Europe/Berlin"),
        Timing(cron="*/7 3-5 * * *", zone="America/New_York"),
        Timing(cron="30 2 * * *", zone="Australia/Lord_Howe"),
    ],
    ids=str,
)
def test_newest_tick_equals_that_of_a_walk(timing):
    """Bisecting finds the tick that walking through all of them finds."""
    after = datetime(2027, 3, 27, 3, 59, 30, tzinfo=UTC)
    newest = count = 0
    until = after + (timedelta(minutes=20) if timing.every else timedelta(days=2, minutes=4))
    moment = after
    while (moment := timing.next_tick(moment)) <= until:
        newest, count = moment, count + 1
    assert timing.newest_tick(after, until) == newest
    assert timing.newest_tick(after, newest) == newest
    assert timing.count_ticks(after, until) == min(count, count if timing.every else MAX_COUNTED_TICKS + 1)
    assert timing.newest_tick(newest, newest + timedelta(milliseconds=1)) is None


@pytest.mark.parametrize(
    "timing",
    [
        Timing(every=timedelta(seconds=1)),
        Timing(cron="* * * * *", zone="Europe/Berlin"),
        Timing(cron="0 0 * 2 MON#5", zone="Europe/Berlin"),
        Timing(cron="0 0 */31 2 MON#5", zone="Europe/Berlin"),
        Timing(cron="59 23 29 2 *", zone="Africa/Cairo"),
        Timing(cron="* * 1 1 *", zone="UTC"),
    ],
    ids=str,
)
def test_a_year_away_costs_little(timing, monkeypatch):
    """The newest of 30 million ticks, and their number, without a walk through them."""
    calls = []
    next_tick = Timing.next_tick
    monkeypatch.setattr(Timing, "next_tick", lambda self, after: calls.append(1) or next_tick(self, after))
    after = datetime(2026, 11, 21, tzinfo=UTC)
    timing.newest_tick(after, after + timedelta(days=365))
    count = timing.count_ticks(after, after + timedelta(days=365))
    assert len(calls) < MAX_COUNTED_TICKS + 50
    assert count == 365 * 24 * 3600 if timing.every else count <= MAX_COUNTED_TICKS + 1

"""Cron expressions against an oracle: a cron that looks at the wall clock in each minute of real time.

Its rules are those that ``man cron`` of Debian documents. An expression whose minutes and hours do not begin with
``*`` is due once for each wall time: in the first minute in which the clock has reached it, so right after a change
that skips it, and not again when the clock is set back. Any other one is due in each minute that it matches.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifications.contrib.schedules.timing import Timing

pytestmark = pytest.mark.nightly_on_postgres

MINUTE = timedelta(minutes=1)
#: Days around which clocks are set: by an hour, by half an hour, at midnight, and in the hour before it.
CHANGES = [
    ("Europe/Berlin", datetime(2027, 3, 28)),
    ("Europe/Berlin", datetime(2027, 10, 31)),
    ("America/New_York", datetime(2027, 3, 14)),
    ("America/New_York", datetime(2027, 11, 7)),
    ("Australia/Lord_Howe", datetime(2027, 10, 3)),
    ("Australia/Lord_Howe", datetime(2027, 4, 4)),
    ("America/Havana", datetime(2027, 3, 14)),
    ("America/Havana", datetime(2027, 11, 7)),
    ("Africa/Cairo", datetime(2027, 4, 30)),
    ("Africa/Cairo", datetime(2027, 10, 29)),
    ("America/Santiago", datetime(2027, 9, 5)),
    ("America/Santiago", datetime(2027, 4, 4)),
    ("Antarctica/Troll", datetime(2027, 3, 28)),  # by two hours
    ("Antarctica/Troll", datetime(2027, 10, 31)),
    ("Pacific/Apia", datetime(2011, 12, 30)),  # by a day
    ("UTC", datetime(2027, 3, 28)),
]


class Cron:
    """Minutes and hours as sets, or every so many; and days of the week."""

    def __init__(self, minutes, hours, weekdays):
        self.minutes, self.hours, self.weekdays = minutes, hours, weekdays

    def __str__(self):
        return f"{field(self.minutes)} {field(self.hours)} * * {field(self.weekdays)}"

    __repr__ = __str__

    @property
    def is_real_time(self):
        return isinstance(self.minutes, int) or isinstance(self.hours, int)

    def matches(self, wall):
        day = wall.isoweekday() % 7
        return (
            contains(self.minutes, wall.minute)
            and contains(self.hours, wall.hour)
            and contains(self.weekdays, day)
        )


def field(values):
    if isinstance(values, int):
        return "*" if values == 1 else f"*/{values}"
    return ",".join(map(str, sorted(values)))


def contains(values, value):
    return value % values == 0 if isinstance(values, int) else value in values


def expected_ticks(cron, zone, start, end):
    """Return the ticks after a moment and up to another one, by looking at each minute from a day before on."""
    moment = start - timedelta(days=1)
    reached = wall_time(moment, zone)
    found = []
    while (moment := moment + MINUTE) <= end:
        wall = wall_time(moment, zone)
        if cron.is_real_time:
            is_due = cron.matches(wall)
        else:
            is_due = False
            while reached < wall:
                reached += MINUTE
                is_due = is_due or cron.matches(reached)
        if is_due and moment > start:
            found.append(moment)
    return found


def wall_time(moment, zone):
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def sets(low, high):
    return st.frozensets(st.integers(low, high), min_size=1, max_size=6)


CRONS = st.builds(
    Cron,
    st.one_of(sets(0, 59), st.sampled_from([1, 7, 10, 15, 30])),
    st.one_of(sets(0, 4), sets(0, 23), st.sampled_from([1, 2, 3, 5])),
    st.one_of(st.just(1), sets(0, 6)),
)


@pytest.mark.parametrize(
    ("zone", "day"),
    [*CHANGES[:2], *(pytest.param(*change, marks=pytest.mark.long) for change in CHANGES[2:])],
    ids=str,
)
@settings(max_examples=12, deadline=None)
@given(cron=CRONS, minute=st.integers(0, 2 * 24 * 60), seconds=st.sampled_from([0, 0.000001, 59.5]))
@example(cron=Cron({0, 30}, {0, 1, 2}, 1), minute=0, seconds=0)
@example(cron=Cron(10, 1, 1), minute=0, seconds=0)
@example(cron=Cron({15}, 1, 1), minute=0, seconds=0)
@example(cron=Cron(1, {1, 2}, 1), minute=0, seconds=0)
@example(cron=Cron(30, {0}, {0}), minute=0, seconds=0)
def test_ticks_equal_those_of_the_oracle(zone, day, cron, minute, seconds):
    """From any moment near the change, one after the other; and the newest one and the number of them."""
    start = day.replace(tzinfo=UTC) - timedelta(days=1) + timedelta(minutes=minute, seconds=seconds)
    end = start.replace(second=0, microsecond=0) + timedelta(days=2)
    wanted = expected_ticks(cron, zone, start.replace(second=0, microsecond=0), end)
    wanted = [tick for tick in wanted if tick > start]
    timing = Timing(cron=str(cron), zone=zone)
    ticks, moment = [], start
    while (moment := timing.next_tick(moment)) and moment <= end:
        ticks.append(moment)
    assert ticks == wanted
    assert timing.newest_tick(start, end) == (wanted[-1] if wanted else None)

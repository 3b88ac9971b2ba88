"""Over any minute no more starts than the rate and one burst, whenever and however late they begin."""

import bisect
import random
from functools import partial

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from notifications.contrib.rates import tokens
from notifications.contrib.rates.models import Limit
from notifications.db import database_now
from notifications.extension import hooks

pytestmark = pytest.mark.any_django

SECOND = 1_000_000
#: How late a start or call may use its token.
TOKEN_VALID_SECONDS = 1.0


def make_rate(count, burst=None):
    """Return a rate of so many a minute, whose burst is a tenth if none is given."""
    return tokens.Rate(
        name="partner", text=f"{count}/m", count=count, seconds=60, burst=burst or max(1, count // 10)
    )


class Partner:
    """A limit, claims that take from it, and starts and calls that use their tokens up to a second later."""

    def __init__(self, rate, seed):
        self.rate = rate
        self.random = random.Random(seed)
        self.limit = Limit()
        self.starts = []

    def run(self, minutes, *, delay, slices, longest_pause=1_100_000):
        now = 0
        while now < minutes * 60 * SECOND:
            now += self.random.randrange(20_000, longest_pause)
            state = tokens.read_state(self.limit, self.rate, now)
            count = tokens.count_free(state, self.rate)
            if slices and self.random.random() < slices:
                size = max(1, self.rate.count // 100)
                count = size if count >= size else 0
            tokens.pay(self.limit, self.rate, now, count)
            self.starts += [now + int(self.random.uniform(0, delay) * SECOND) for _ in range(count)]

    def most_in_a_window(self):
        starts = sorted(self.starts)
        window = self.rate.seconds * SECOND
        return max(
            (bisect.bisect_left(starts, start + window) - index for index, start in enumerate(starts)),
            default=0,
        )


@given(
    count=st.integers(1, 2_000),
    burst=st.integers(1, 200),
    delay=st.sampled_from([0, TOKEN_VALID_SECONDS]),
    slices=st.sampled_from([0, 0.5, 1]),
    seed=st.integers(0, 1_000),
)
def test_no_window_has_more(count, burst, delay, slices, seed):
    rate = make_rate(count, min(burst, count))
    partner = Partner(rate, seed)
    partner.run(4, delay=delay, slices=slices)
    assert partner.most_in_a_window() <= rate.count + rate.burst


@pytest.mark.parametrize("count", [1, 10, 60, 100, 300, 1_000])
def test_what_waits_uses_the_rate(count):
    rate = make_rate(count)
    partner = Partner(rate, 1)
    partner.run(20, delay=0.1, slices=0, longest_pause=30_000 if count <= 10 else 500_000)
    assert len(partner.starts) >= 0.95 * 20 * 60 / rate.seconds * rate.count


def test_nothing_for_hours_gives_one_burst():
    rate = make_rate(100)
    state = tokens.read_state(Limit(busy_until=0), rate, 3_600 * SECOND)
    assert tokens.count_free(state, rate) == rate.burst_at_once <= 10


def test_a_clock_that_was_set_back():
    """Of what was stored further ahead than is ever set only a burst is left to wait for."""
    rate = make_rate(100)
    limit = Limit(busy_until=7_300 * SECOND, closed_until=7_300 * SECOND)
    state = tokens.read_state(limit, rate, 0)
    assert (state.closed, tokens.seconds_until(state, rate)) == (0, rate.interval / SECOND)


def test_a_clock_that_was_set_back_closes_no_calls(db):
    until = tokens.to_microseconds(database_now()) + 7_300 * SECOND
    Limit.objects.create(key="partner", name="partner", used_at=database_now(), closed_until=until)
    assert tokens.take(make_rate(10), "partner", 1) == 0.0


def test_a_limit_that_a_partner_has_closed_allows_no_start(db, declare):
    declare(partner="100/m")
    tokens.correct(make_rate(100), "partner", "Retry-After", left=None, seconds=120)
    (allow,) = hooks.allow_starts
    now = database_now()
    free, opens_at = allow({"partner": 1}, now, counts=True)["partner"]
    assert free == 0 and 100 < (opens_at - now).total_seconds() < 121


def test_a_partner_gives_no_more_than_is_declared(db):
    rate = make_rate(100)
    assert tokens.take(rate, "partner", rate.burst_at_once) == 0.0
    tokens.correct(rate, "partner", "RateLimit", left=rate.burst_at_once, seconds=0)
    assert tokens.take(rate, "partner", 1) > 0


def test_calls_follow_a_rate_that_is_changed(transactional_db, jobs_clock):
    """A token of the old rate is a minute: a second later it has gone by the new one."""
    old = tokens.Rate(name="partner", text="60/h", count=60, seconds=3_600, burst=1)
    assert tokens.take(old, "partner", 1) == 0.0
    assert tokens.take(make_rate(60, burst=1), "partner", 1) <= 1
    jobs_clock.advance(1.1)
    assert tokens.take(make_rate(60, burst=1), "partner", 1) == 0.0


def test_a_shorter_correction_opens_nothing_early(db):
    """What the partner has said first still holds."""
    rate = make_rate(10)
    for seconds in (120, 5):
        tokens.correct(rate, "partner", "Retry-After", left=None, seconds=seconds)
    assert 100 < tokens.take(rate, "partner", 1) <= 120


def test_a_damaged_row_stops_no_other(db, declare, caplog):
    """On SQLite a column may have anything."""
    declare(partner="60/m", other="60/m")
    now = database_now()
    (allow,) = hooks.allow_starts
    take = partial(allow, counts=True)
    assert take({"partner": 1, "other": 1}, now)["partner"][0] == 1
    rows = {row.key: row for row in Limit.objects.all()}
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("UPDATE notifications_rates_limit SET busy_until = 'x' WHERE key = 'partner'")
    taken = take({"partner": 1, "other": 1}, now)
    assert taken["other"][0] == 1 and Limit.objects.only("used").get(key="other").used == 2
    if connection.vendor == "sqlite":
        assert taken["partner"][0] == 0 and "partner is damaged" in caplog.text
    assert rows.keys() == {"partner", "other"}


def test_another_rate_counts_what_was_taken(db, declare):
    """60 an hour used up, then 60 a minute: some may start after a second, not after a minute."""
    declare(partner={"rate": "60/h", "burst": 1})
    now = database_now()
    (allow,) = hooks.allow_starts
    take, read = partial(allow, counts=True), partial(allow, counts=False)
    state = take({"partner": 1}, now)["partner"]
    assert state[0] == 1 and (state[1] - now).total_seconds() > 50
    declare(partner={"rate": "60/m", "burst": 1})
    state = read({"partner": 9}, now)["partner"]
    assert state[0] == 0 and 0.9 < (state[1] - now).total_seconds() < 1.2
    assert take({"partner": 5}, state[1])["partner"][0] == 1

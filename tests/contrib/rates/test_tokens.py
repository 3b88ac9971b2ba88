"""Over any minute no more starts than the rate and one burst, whenever and however late they begin."""

import bisect
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.contrib.rates import tokens
from notifications.contrib.rates.models import Limit

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]

SECOND = 1_000_000
#: For how long jobs are released ahead, and how long a slice of tokens is valid.
AHEAD_SECONDS, TOKEN_VALID_SECONDS = 2.0, 1.0


def make_rate(count, burst=None):
    """Return a rate of so many a minute, whose burst is a tenth if none is given."""
    return tokens.Rate(
        name="partner", text=f"{count}/m", count=count, seconds=60, burst=burst or max(1, count // 10)
    )


class Partner:
    """A limit, with a duty that releases jobs each second, workers, and calls that take slices of tokens."""

    def __init__(self, rate, seed):
        self.rate = rate
        self.random = random.Random(seed)
        self.limit = Limit()
        self.released = []
        self.begun = []
        self.starts = []

    def run(self, minutes, *, delay, calls):
        """``delay`` is up to how many seconds pass until a released job begins."""
        now = 0
        while now < minutes * 60 * SECOND:
            now += self.random.randrange(300_000, 1_100_000)
            self.begin(now)
            for moment in sorted(self.begun):
                tokens.pay(self.limit, self.rate, moment)
            self.begun.clear()
            state = tokens.read_state(self.limit, self.rate, now, len(self.released))
            for _ in range(tokens.count_free(state, self.rate, int(AHEAD_SECONDS * SECOND))):
                self.released.append(now + int(self.random.uniform(0, delay) * SECOND))
            if calls and self.random.random() < calls:
                self.call(now)
        self.begin(now + 3_600 * SECOND)

    def begin(self, now):
        begun = [moment for moment in self.released if moment <= now]
        self.released = [moment for moment in self.released if moment > now]
        self.begun += begun
        self.starts += begun

    def call(self, now):
        count = max(1, self.rate.count // 100)
        state = tokens.read_state(self.limit, self.rate, now, len(self.released) + len(self.begun))
        if tokens.count_free(state, self.rate) >= count:
            tokens.pay(self.limit, self.rate, now, count)
            self.starts += [
                now + int(self.random.uniform(0, TOKEN_VALID_SECONDS) * SECOND) for _ in range(count)
            ]

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
    delay=st.sampled_from([0, 1, 20, 90]),
    calls=st.sampled_from([0, 0.5, 1]),
    seed=st.integers(0, 1_000),
)
def test_no_window_has_more(count, burst, delay, calls, seed):
    rate = make_rate(count, min(burst, count))
    partner = Partner(rate, seed)
    partner.run(4, delay=delay, calls=calls)
    assert partner.most_in_a_window() <= rate.count + rate.burst


@pytest.mark.parametrize("count", [1, 10, 60, 100, 300, 1_000])
def test_what_waits_uses_the_rate(count):
    rate = make_rate(count)
    partner = Partner(rate, 1)
    partner.run(20, delay=0.1, calls=0)
    assert len(partner.starts) >= 0.95 * 20 * 60 / rate.seconds * rate.count


def test_nothing_for_hours_gives_one_burst():
    rate = make_rate(100)
    state = tokens.read_state(Limit(busy_until=0), rate, 3_600 * SECOND, 0)
    assert tokens.count_free(state, rate) == rate.burst_at_once <= 10


def test_a_clock_that_was_set_back():
    """Of what was stored further ahead than is ever set only a burst is left to wait for."""
    rate = make_rate(100)
    limit = Limit(busy_until=7_300 * SECOND, closed_until=7_300 * SECOND)
    state = tokens.read_state(limit, rate, 0, 0)
    assert (state.closed, tokens.seconds_until(state, rate)) == (0, rate.interval / SECOND)


def test_a_shorter_correction_opens_nothing_early(db):
    """What the partner has said first still holds."""
    rate = make_rate(10)
    for seconds in (120, 5):
        tokens.correct(rate, "partner", "Retry-After", left=None, seconds=seconds)
    assert 100 < tokens.take(rate, "partner", 1) <= 120

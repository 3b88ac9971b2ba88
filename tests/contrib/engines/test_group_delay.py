"""Transactions of a busy process of an engine are delayed, so that each covers more jobs."""

import asyncio

import pytest

from notifications.contrib.engines.group_delay import BURST_SECONDS, MAX_DELAY_SECONDS, GroupDelay


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def delay(clock):
    return GroupDelay(clock)


def run_transaction(delay, clock, seconds):
    """Return how long the transaction is delayed."""
    waited = delay.delay_seconds
    clock.now += waited
    with delay.transaction():
        clock.now += seconds
    return waited


def test_single_transactions_are_not_delayed(delay, clock):
    for _ in range(100):
        assert run_transaction(delay, clock, 0.004) == 0
        clock.now += 0.05


def test_the_first_after_a_quiet_time_are_not_delayed(delay, clock):
    for _ in range(3):
        for _ in range(10):
            assert run_transaction(delay, clock, BURST_SECONDS / 20) == 0
        clock.now += 10


def test_busy_ones_take_a_tenth_of_the_time(delay, clock):
    waits = [run_transaction(delay, clock, 0.002) for _ in range(200)]
    assert waits[-1] == pytest.approx(0.018)
    assert max(waits) < MAX_DELAY_SECONDS


def test_the_delay_has_a_limit(delay, clock):
    """Also after a transaction that waited for a lock."""
    for seconds in (0.03, 20, 0.03, 0.03):
        assert run_transaction(delay, clock, seconds) <= MAX_DELAY_SECONDS + 1e-9
    assert delay.delay_seconds == pytest.approx(MAX_DELAY_SECONDS)


def test_an_error_counts_as_well(delay, clock):
    with pytest.raises(OSError, match="away"), delay.transaction():
        clock.now += 1
        raise OSError("away")
    assert delay.delay_seconds == pytest.approx(MAX_DELAY_SECONDS)


async def test_waiting(delay, clock):
    """For the delay, or until it is ended. Without a delay there is nothing to wait for."""
    await asyncio.wait_for(delay.wait(), 0.01)
    with delay.transaction():
        clock.now += 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(delay.wait(), MAX_DELAY_SECONDS / 50)
    await asyncio.wait_for(delay.wait(), 30)
    waiting = asyncio.ensure_future(delay.wait())
    await asyncio.sleep(0)
    delay.end()
    await asyncio.wait_for(waiting, MAX_DELAY_SECONDS / 2)

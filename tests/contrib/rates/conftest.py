"""Rates of a test."""

from contextlib import contextmanager
from datetime import timedelta

import pytest

from notifications.contrib.rates.models import Limit
from notifications.db import database_now
from notifications.extension import Where
from notifications.testing import clock
from notifications.times import to_microseconds
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.duties import run_duty


@pytest.fixture
def declare(settings):
    """declare(partner="100/m") declares rates, and no others."""

    def declare(**rates):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RATES": rates}

    return declare


def release_due():
    """Release the jobs that their limits allow now."""
    run_duty("release jobs of rates", Where.LASTING)


def close(seconds=120):
    """Have the partner close its limit, as a response with ``Retry-After`` does."""
    now = database_now()
    until = to_microseconds(now + timedelta(seconds=seconds))
    Limit.objects.update(closed_until=until, corrected_by=f"Retry-After: {seconds}", corrected_at=now)


@contextmanager
def moved(**ahead):
    """The clock of the database is ahead in the block."""
    before = clock.ahead
    clock.advance(timedelta(**ahead))
    try:
        yield
    finally:
        clock.ahead = before

"""Rates of a test."""

from contextlib import contextmanager
from datetime import timedelta

import pytest

from notifications.contrib.rates import calls
from notifications.outbound import gates
from notifications.testing import clock
from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def declare(settings):
    """declare(partner="100/m") declares rates, and no others."""

    def declare(**rates):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RATES": rates}

    return declare


@pytest.fixture
def limited_calls(monkeypatch):
    """Calls of this process count, as outside of tests."""
    monkeypatch.setattr(gates, "enabled_in_tests", True)
    calls._forget()
    yield
    calls._forget()


@contextmanager
def moved(**ahead):
    """The clock of the database is ahead in the block."""
    before = clock.ahead
    clock.advance(timedelta(**ahead))
    try:
        yield
    finally:
        clock.ahead = before

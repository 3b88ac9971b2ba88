"""Rates of a test."""

import pytest

from notifications.extension import Where
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

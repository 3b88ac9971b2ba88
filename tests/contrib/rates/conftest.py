"""Rates of a test."""

import pytest

from notifications.extension import Where
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.claims import claim_rows
from tests.support.duties import run_duty


@pytest.fixture
def declare(settings):
    """declare(partner="100/m") declares rates, and no others."""

    def declare(**rates):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RATES": rates}

    return declare


def open_limits():
    """Have jobs join the queue whose limits have opened."""
    run_duty("open limits that jobs wait for", Where.SERVER)


def check_limits():
    """Compare what jobs wait for with what the code declares, and open what does not limit them any more."""
    run_duty("check limits that jobs wait for", Where.SERVER)
    open_limits()


def claim_all(worker=None, limit=100):
    """Claim what limits allow now, of all jobs, and return the rows."""
    open_limits()
    return claim_rows(worker, limit)

"""Rates of a test."""

from contextlib import contextmanager
from datetime import timedelta

import pytest

from notifications.extension import Where
from notifications.models import Job
from notifications.testing import clock
from tests.contrib.rates import rated_tasks
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.claims import claim_rows
from tests.support.duties import run_duty

ONE_AN_HOUR = {"rate": "1/h", "burst": 1}


@contextmanager
def moved(**ahead):
    """The clock of the database is ahead in the block."""
    before = clock.ahead
    clock.advance(timedelta(**ahead))
    try:
        yield
    finally:
        clock.ahead = before


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


def ids(rows):
    return [str(row.id) for row in rows]


def waiting():
    """Return the jobs that wait for a limit."""
    return Job.objects.filter(state="queued", due_at__isnull=False, limit_turn__isnull=False).order_by("id")


def in_queue():
    return Job.objects.filter(state="queued", due_at=None).order_by("turn", "id")


def enqueue(count, task=rated_tasks.fetch, **options):
    return [task.using(**options).enqueue() for _ in range(count)]

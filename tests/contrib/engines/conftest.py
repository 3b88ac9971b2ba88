"""Fixtures for tests of engines: a backend whose jobs an engine runs that does nothing."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib.engines import engine_of
from notifications.jobs.claiming import unserved
from notifications.models import Job, Worker
from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def idle_engine(settings, db):
    """Return the engine of the default backend, which wakes nobody."""
    options = {"engine": "tests.contrib.engines.idle_engine"}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    unserved.warn_of_unserved_jobs()  # there are none, so the next one is logged
    return engine_of("default")


@pytest.fixture
def engine_process(live_worker):
    """Return a function that adds the row of a live process of that engine: engine_process(load=0)."""

    def add(load=0, seconds=20):
        Worker.objects.filter(id=live_worker(seconds)).update(queues="engine:idle", load=load)

    return add


def wait_long(**fields):
    """Have the queued jobs wait for a minute, and set other fields of them."""
    queued_at = timezone.now() - timedelta(seconds=60)
    Job.objects.filter(state="queued").update(queued_at=queued_at, **fields)

"""Schedules of a test, and rounds at times that the test chooses."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group

from notifications.contrib.schedules import ticks
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.db import database_now
from notifications.extension import Upkeep, Where
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.admin.conftest import sign_in_staff  # noqa: F401 (a fixture)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.duties import run_duty


class Schedules:
    """Declares schedules, and runs rounds by a clock that the test moves."""

    def __init__(self, settings, monkeypatch):
        self._settings = settings
        self._monkeypatch = monkeypatch
        loops = Upkeep(Where.WORKER, seconds=60).own_loops
        [self._loop] = [duty for duty in loops if duty.name == "enqueue jobs of schedules"]
        self.start = self.now = database_now()
        self._monkeypatch.setattr(ticks, "database_now", lambda: self.now)
        self._monkeypatch.setattr(ticks, "_declared_since", {})
        self._monkeypatch.setattr(ticks, "_prepared_at", {})

    def declare(self, name="poll", task="tests.jobs.tasks.noop", every=timedelta(minutes=10), **options):
        """Declare a schedule in place of all others, and run the round that inserts its row."""
        timing = {} if "cron" in options else {"every": every}
        declared = {name: {"task": task, **timing, **options}}
        self._settings.NOTIFICATIONS = {**self._settings.NOTIFICATIONS, "SCHEDULES": declared}
        self.run_round()
        return self.row(name)

    def remove(self):
        """Remove all declarations."""
        self._settings.NOTIFICATIONS = {**self._settings.NOTIFICATIONS, "SCHEDULES": {}}

    def round(self, at=None, **after):
        """Run a round at a time, or so long after the last one, and announce what it found."""
        self.now = at or self.now + timedelta(**after)
        pause = self.run_round()
        run_duty("announce problems")
        return pause

    def run_round(self):
        """Run one round of the loop of a worker. Return the seconds until the next one."""
        return self._loop.run()

    def run_due(self, name="poll"):
        """Run the round of the next tick, its job, and the rounds that record its end and notify."""
        self.round(at=self.row(name).next_tick)
        run_jobs()
        self.round(), self.round()

    def row(self, name="poll"):
        return Schedule.objects.get(name=name)

    def ticks(self):
        """Return outcome and count of the ticks, by time."""
        return list(Tick.objects.order_by("due_at").values_list("outcome", "count"))


@pytest.fixture
def schedules(transactional_db, settings, monkeypatch):
    """See Schedules."""
    return Schedules(settings, monkeypatch)


@pytest.fixture
def group(user, other_user):
    """Return the group "Operators" with two users."""
    group = Group.objects.create(name="Operators")
    group.user_set.set([user, other_user])
    return group


@pytest.fixture
def titles():
    """titles(user) returns the titles of a user's notifications, oldest first."""

    def read(user):
        return list(Notification.objects.filter(user=user).order_by("id").values_list("title", flat=True))

    return read


@pytest.fixture
def jobs():
    """jobs() returns the jobs, oldest first."""
    return lambda: list(Job.objects.order_by("id"))

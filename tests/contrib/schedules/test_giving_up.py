"""A stored schedule that has paused itself, because its runs have failed."""

from datetime import timedelta

import pytest

from notifications.contrib.schedules import schedule, update_schedule
from notifications.testing import run_jobs
from tests.contrib.schedules.test_stored import (
    announce,
    by_hand,
    reload,
    report,
    run_next,
    run_round,
)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
def test_run_by_hand(jobs_clock, titles, user, settings, fails):
    """It stays paused, whatever comes of the run: it runs again when it was resumed and a run has succeeded."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": {"max_failures": 1}}
    row = schedule(report, [True], every=timedelta(hours=1), owner=user, title="Report")
    run_next(row), announce()
    assert titles(user) == ["Report is paused"]
    update_schedule(row, args=[fails])
    by_hand("run", row)
    run_jobs(), run_round(), announce()
    found = reload(row)
    assert (found.problem, found.paused_by, found.failures) == ("given up", "failures", 1 + fails)
    assert titles(user) == ["Report is paused"]
    update_schedule(row, args=[False])
    by_hand("resume", row)
    run_next(row), announce()
    assert titles(user) == ["Report is paused", "Report runs again"]

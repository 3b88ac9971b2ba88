"""A schedule that stands is named, by doctor and by an alert."""

import time
from datetime import timedelta

import pytest

from notifications.contrib.operations.models import Alert
from notifications.contrib.schedules import problems
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.db import database_now
from notifications.models import Notification
from tests.contrib.operations.alerts.conftest import alerts, operator  # noqa: F401 (fixtures)
from tests.contrib.schedules.test_processes import each_second, never_found, wait_for_ticks  # noqa: F401
from tests.support.checks import doctor
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("operations have the alerts"),
]


def test_one_schedule_that_stands_is_named(
    never_found,  # noqa: F811
    start_worker,
    user,
    operator,  # noqa: F811
    settings,
    monkeypatch,
    over_at_once,
):
    """By doctor, which does not look for its owner itself, and by an alert; the others go on. Both until it is over."""
    del settings.NOTIFICATIONS["SCHEDULES"]["second"]
    monkeypatch.setattr(problems, "OVERDUE_SECONDS", 3.0)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ALERTS": {"interval": 1}}
    start_worker()
    wait_for_ticks(schedule="poll", job_state="succeeded")
    about_first = Alert.objects.filter(kind="overdue", subject="first")
    wait_until(lambda: about_first.filter(closed_at=None).exists(), what="the alert")
    (error,) = doctor("overdue")
    assert error["state"] == "error" and error["subject"] == "first"
    assert error["message"].startswith("first: It was due at")
    assert "does not return in" in error["remedy"] and "has not returned" in error["remedy"]
    last = Tick.objects.filter(schedule="poll").latest("id").id
    wait_until(lambda: Tick.objects.filter(schedule="poll", id__gt=last).exists(), what="a later tick")
    titles = Notification.objects.filter(user=operator, category="alert").values_list("title", flat=True)
    wait_until(lambda: "Schedule overdue: first" in titles.all(), what="the notification")
    assert set(Alert.objects.filter(kind="overdue").values_list("subject", flat=True)) == {"first"}
    never_found.set()
    wait_until(lambda: not about_first.filter(closed_at=None).exists(), what="the end of the alert")
    assert doctor("overdue") == [] and doctor("schedules")[0]["state"] == "ok"


def test_a_schedule_is_overdue_a_minute_after_it_was_due(schedules, alerts, operator):  # noqa: F811
    """Not while it is paused, nor if no process declares it, nor in the first minute of a process."""
    schedules.declare()

    def is_due(seconds):
        Schedule.objects.update(next_tick=database_now() - timedelta(seconds=seconds))
        return alerts.evaluate()

    assert is_due(seconds=55) == []
    with pytest.MonkeyPatch.context() as patch:
        for age, found in ((50, []), (60, [("overdue", "poll")])):
            patch.setattr(problems, "_imported_at", time.monotonic() - age)
            assert is_due(seconds=65) == found
        assert "It was due at" in Alert.objects.get().detail
        Schedule.objects.update(paused_at=database_now())
        assert alerts.evaluate() == []
        Schedule.objects.update(paused_at=None)
        assert alerts.evaluate() == [("overdue", "poll")]
        schedules.remove()
        assert alerts.evaluate() == []
    assert "Over: Schedule overdue: poll" in alerts.notified(operator)

"""What other parts show of schedules: alerts, metrics, and times that were stored while a clock was wrong."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib.operations.models import Alert
from notifications.contrib.schedules.models import Schedule, Tick
from tests.contrib.operations.alerts.conftest import alerts, operator  # noqa: F401 (fixtures)
from tests.contrib.operations.test_metrics import samples, token  # noqa: F401 (a fixture)

pytestmark = [
    pytest.mark.with_all_apps("the alerts and metrics are those of operations"),
    pytest.mark.nightly_on_postgres,
]


def test_schedule_missed(alerts, operator):  # noqa: F811
    """A tick that was recorded as missed, until the window has passed. Other ticks do not count."""
    now = timezone.now()
    for outcome in ("enqueued", "skipped"):
        Tick.objects.create(schedule_id="hourly", due_at=now, outcome=outcome, recorded_at=now)
        now += timedelta(seconds=1)
    assert alerts.evaluate() == []
    Tick.objects.create(schedule_id="nightly", due_at=now, outcome="missed", count=3, recorded_at=now)
    assert alerts.evaluate() == [("schedule", "nightly")]
    assert Alert.objects.get().detail.startswith("3 runs were missed")
    Tick.objects.update(recorded_at=now - timedelta(hours=1))
    assert alerts.evaluate() == []
    title = "Schedule missed: nightly"
    assert alerts.notified(operator) == [title, f"Over: {title}"]


def test_detail_of_the_newest_tick(alerts):  # noqa: F811
    """It says why the last run could not be enqueued; the first reason may be gone."""
    now = timezone.now()
    for detail, seconds in (("the oldest reason", 60), ("the newest reason", 0)):
        at = now - timedelta(seconds=seconds)
        tick = {"due_at": at, "recorded_at": at, "outcome": "failed", "detail": detail}
        Tick.objects.create(schedule_id="nightly", **tick)
    assert alerts.evaluate() == [("schedule", "nightly")]
    assert "the newest reason" in Alert.objects.get().detail


def test_missed_schedules_that_run_again(alerts, operator):  # noqa: F811
    """An alert is over when its schedule was run by a later round, long before the window has passed."""
    now = timezone.now()
    for number in range(38):
        for outcome, seconds in (("missed", 0), ("enqueued", 1)):  # the round after an outage
            due_at = now + timedelta(seconds=seconds)
            Tick.objects.create(schedule_id=f"poll-{number}", due_at=due_at, outcome=outcome, recorded_at=now)
    assert len(alerts.evaluate()) == 38
    for number in range(38):
        at = now + timedelta(seconds=10)
        Tick.objects.create(schedule_id=f"poll-{number}", due_at=at, outcome="enqueued", recorded_at=at)
    assert alerts.evaluate() == []
    assert len(alerts.notified(operator)) == 76


def test_metrics(client, db):
    """What is wrong with schedules, and when they run."""
    now = timezone.now()
    Schedule.objects.create(
        name="nightly", created_at=now, declared_until=now, last_tick=now, next_tick=now, problem="missed"
    )
    Schedule.objects.create(name="paused", created_at=now, declared_until=now, next_tick=now, paused_at=now)
    found = samples(client)
    assert found["notifications_schedule_paused", "schedule=paused"] == 1
    assert found["notifications_schedule_problem", "problem=missed", "schedule=nightly"] == 1
    assert found["notifications_schedule_problem", "problem=failed", "schedule=nightly"] == 0
    prefix = "notifications_schedule_next_run_timestamp_seconds"
    assert {key[1]: value for key, value in found.items() if key[0] == prefix} == {
        "schedule=nightly": pytest.approx(now.timestamp(), abs=0.001)
    }


def test_next_tick_of_a_schedule(schedules):
    """The next round computes it anew, from now on."""
    row = schedules.declare()
    far = row.next_tick + timedelta(days=3650)
    Schedule.objects.update(next_tick=far, last_tick=far)
    schedules.round()
    assert schedules.row().next_tick == row.next_tick
    schedules.round(at=row.next_tick)
    assert schedules.ticks() == [("enqueued", 1)] and schedules.row().last_tick == row.next_tick

"""Pause, resume and run a schedule by hand."""

from datetime import timedelta

import pytest

from notifications.contrib.schedules import operating
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.testing import run_jobs


@pytest.fixture(autouse=True)
def same_clock(schedules, monkeypatch):
    monkeypatch.setattr(operating, "database_now", lambda: schedules.now)


def test_pause_and_resume(schedules, jobs):
    """What was due meanwhile is neither enqueued nor missed."""
    row = schedules.declare()
    assert operating.pause(["poll", "unknown"]) == ["poll"]
    assert operating.pause(["poll"]) == []
    schedules.round(at=row.next_tick + timedelta(hours=1))
    assert operating.resume(["poll"]) == ["poll"]
    assert operating.resume(["poll"]) == []
    schedules.round()
    assert jobs() == [] and schedules.ticks() == []
    schedules.round(at=row.next_tick + timedelta(hours=1, minutes=10))
    assert len(jobs()) == 1 and schedules.ticks() == [("enqueued", 1)]


def test_resume_where_it_is_not_declared(schedules, jobs):
    """A process in which it is declared computes the next tick, from then on."""
    row = schedules.declare()
    operating.pause(["poll"])
    schedules.remove()
    operating.resume(["poll"])
    assert schedules.row().next_tick is None
    schedules.now = row.next_tick + timedelta(hours=1)
    schedules.declare()
    assert schedules.row().next_tick == row.next_tick + timedelta(hours=1, minutes=10)
    assert schedules.ticks() == []


def test_run_now(schedules, jobs):
    """Also while it is paused. The next tick stays."""
    row = schedules.declare()
    operating.pause(["poll"])
    tick = operating.run_now("poll")
    [job] = jobs()
    assert tick.job == job.id and tick.is_manual and job.schedule == "poll"
    assert schedules.row().next_tick == row.next_tick


def test_run_now_while_it_is_active(schedules, jobs):
    """Like a tick: it is skipped, and the reason given."""
    schedules.declare(every=timedelta(days=7))  # no tick is due meanwhile
    operating.run_now("poll")
    schedules.now += timedelta(seconds=1)
    with pytest.raises(operating.ScheduleNotRun, match="The previous run is still active"):
        operating.run_now("poll")
    run_jobs()
    schedules.round(seconds=1)
    operating.run_now("poll")
    assert len(jobs()) == 2


def test_run_now_of_what_is_not_declared(schedules, db):
    """The message says what to do."""
    schedules.remove()
    with pytest.raises(operating.ScheduleNotRun, match="not declared"):
        operating.run_now("poll")


def test_run_now_of_a_task_that_does_not_exist(schedules):
    """The reason is in the message and in the tick."""
    schedules.declare(task="tests.jobs.tasks.missing")
    with pytest.raises(operating.ScheduleNotRun, match="missing"):
        operating.run_now("poll")
    assert Tick.objects.get().outcome == "failed"


def test_declared_schedules_are_listed_before_any_process_has_run(settings, db):
    """The list of a new installation is not empty."""
    declared = {"poll": {"task": "tests.jobs.tasks.noop", "cron": "* * * * *"}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": declared}
    operating.insert_declared()
    assert Schedule.objects.get().name == "poll"

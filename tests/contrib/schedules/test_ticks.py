"""One job for each tick: when it is due, after outages, beside other processes, when declarations change."""

from datetime import timedelta

import pytest
from django.core.management import call_command

from notifications.conf import settings as app_settings
from notifications.contrib.schedules import ticks
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.testing import run_jobs
from tests.contrib.schedules.tasks import nightly
from tests.support.django_tasks import task_enqueued

TEN_MINUTES = timedelta(minutes=10)


def test_a_job_at_each_tick(schedules, jobs, user):
    """With the arguments, owner and queue of the declaration; none before the tick, none twice."""
    row = schedules.declare(
        task="tests.jobs.tasks.add", args=[1], kwargs={"b": 2}, owner="ada", queue="reports"
    )
    assert row.next_tick > schedules.now and row.next_tick.minute % 10 == 0
    schedules.round(at=row.next_tick - timedelta(milliseconds=1))
    assert jobs() == []
    schedules.round(at=row.next_tick)
    schedules.round()
    [job] = jobs()
    assert (job.task_path, job.args, job.kwargs) == ("tests.jobs.tasks.add", "[1]", '{"b":2}')
    assert (job.user_id, job.queue_name, job.schedule) == (user.pk, "reports", "poll")
    assert schedules.row().next_tick == row.next_tick + TEN_MINUTES
    [tick] = Tick.objects.all()
    assert (tick.due_at, tick.job, tick.outcome) == (row.next_tick, job.id, "enqueued")
    run_jobs()
    schedules.round(at=row.next_tick + TEN_MINUTES)
    assert len(jobs()) == 2
    assert Tick.objects.get(job=job.id).job_state == "succeeded"


def test_round_ends_when_the_next_tick_is_due(schedules):
    """So that a tick is not up to a second late."""
    row = schedules.declare()
    assert schedules.round(at=row.next_tick - timedelta(seconds=0.25)) == 0.25
    assert schedules.round(at=row.next_tick - timedelta(seconds=60)) == 1


def test_round_that_enqueues_ends_when_the_tick_after_it_is_due(schedules, jobs):
    """Otherwise each round of a schedule of each second would be a little later, until a tick is missed."""
    row = schedules.declare(every=timedelta(seconds=1), overlap="allow")
    assert schedules.round(at=row.next_tick + timedelta(seconds=0.25)) == 0.75
    assert len(jobs()) == 1


@pytest.mark.parametrize(("late", "outcome"), [(60, "enqueued"), (61, "missed")])
def test_grace(schedules, late, outcome):
    """A tick that is later than the grace is missed."""
    row = schedules.declare(grace=60)
    schedules.round(at=row.next_tick + timedelta(seconds=late))
    assert schedules.ticks() == [(outcome, 1)]


def test_a_year_away_inserts_two_rows(schedules, jobs):
    """A schedule of each second has missed 30 million ticks."""
    schedules.declare(every=timedelta(seconds=1))
    schedules.round(days=365)
    assert len(jobs()) == 1
    [missed, enqueued] = schedules.ticks()
    assert missed == ("missed", pytest.approx(365 * 24 * 3600, abs=2)) and enqueued == ("enqueued", 1)


def test_rounds_of_several_processes_enqueue_once(schedules, jobs):
    """A process that has read the row before another one recorded the tick changes nothing."""
    row = schedules.declare()
    schedules.now = row.next_tick
    declared = ticks.declared_schedules()
    assert ticks._record_due_ticks([row], declared, schedules.now) == ticks.ROUND_INTERVAL_SECONDS
    assert ticks._record_due_ticks([row], declared, schedules.now) == ticks.LOCKED_RETRY_SECONDS
    assert len(jobs()) == 1 and schedules.ticks() == [("enqueued", 1)]


def test_ticks_that_are_recorded_already_are_not_missed(schedules, jobs):
    """Of those that are due again, because next_tick was set back, only the ones that follow count."""
    first = schedules.declare(overlap="allow").next_tick
    for n in range(2):
        schedules.round(at=first + n * TEN_MINUTES)
    Schedule.objects.update(next_tick=first)
    schedules.round(at=first + 4 * TEN_MINUTES)
    assert schedules.ticks() == [("enqueued", 1), ("enqueued", 1), ("missed", 2), ("enqueued", 1)]
    assert Tick.objects.get(outcome="missed").first_due_at == first + 2 * TEN_MINUTES
    assert len(jobs()) == 3


def test_last_tick_of_a_wrong_clock_stops_nothing(schedules, jobs):
    """The clock of the database was a year ahead for a while."""
    row = schedules.declare(overlap="allow")
    Schedule.objects.update(last_tick=row.next_tick + timedelta(days=365))
    for n in range(2):
        schedules.round(at=row.next_tick + n * TEN_MINUTES)
    assert len(jobs()) == 2
    assert schedules.row().last_tick == row.next_tick + TEN_MINUTES


def test_overlap_is_allowed_up_to_a_limit(schedules, jobs, monkeypatch):
    """Without a worker the number of queued jobs would otherwise grow without end."""
    monkeypatch.setattr("notifications.contrib.schedules.runs.MAX_ACTIVE_RUNS", 2)
    row = schedules.declare(overlap="allow")
    for n in range(3):
        schedules.round(at=row.next_tick + n * TEN_MINUTES)
    assert schedules.ticks() == [("enqueued", 1), ("enqueued", 1), ("skipped", 1)]


def test_removed_schedule_stops(schedules, jobs):
    """Its row stays; other schedules go on."""
    row = schedules.declare("old")
    schedules.declare("new")
    schedules.round(at=row.next_tick)
    assert [job.schedule for job in jobs()] == ["new"]
    schedules.remove()
    schedules.round(hours=3)
    assert len(jobs()) == 1
    assert schedules.row("old").next_tick is None


def test_a_process_that_does_not_declare_a_schedule_leaves_its_ticks(schedules, jobs):
    """It has other settings, or older code. One that declares it was away for ten minutes, and enqueues the job."""
    row = schedules.declare()
    schedules.remove()
    schedules.round(at=row.next_tick + timedelta(minutes=9))
    schedules.declare()
    assert schedules.ticks() == [("enqueued", 1)] and len(jobs()) == 1


def test_a_tick_of_a_schedule_that_no_process_declares_is_missed(schedules, jobs):
    """Once, after its grace. Its owner is notified by the first process that declares it again."""
    row = schedules.declare(grace=3600)
    schedules.remove()
    for _ in range(30):
        schedules.round(minutes=10)
    [tick] = Tick.objects.all()
    assert (tick.outcome, tick.due_at, tick.count) == ("missed", row.next_tick, 1)
    assert "no process has declared" in tick.detail
    row = schedules.row()
    assert (row.next_tick, row.last_tick, row.problem) == (None, tick.due_at, "missed")
    assert schedules.declare(grace=3600).next_tick > schedules.now
    assert len(schedules.ticks()) == 1 and jobs() == []


def test_a_declaration_lasts_for_the_grace_after_the_last_round_of_its_process(schedules):
    """However long the process has run before, and whatever the grace of another one that declares it too."""
    schedules.now = schedules.now.replace(hour=1)  # The tick is at midnight.
    schedules.declare(every=timedelta(days=1), grace=3600)
    for _ in range(20):
        schedules.round(minutes=7)
    schedules.declare(every=timedelta(days=1), grace=1)
    stopped = schedules.now
    schedules.remove()
    Schedule.objects.update(next_tick=stopped)
    schedules.round(at=stopped + timedelta(seconds=3599))
    assert schedules.ticks() == []
    schedules.round(at=stopped + timedelta(hours=2, seconds=1))
    assert schedules.ticks() == [("missed", 1)]


def test_a_process_that_declares_a_schedule_seldom_writes_that(schedules):
    """Not in each round, of which there is one each second."""
    schedules.now = schedules.now.replace(hour=1)  # The tick is at midnight.
    schedules.declare(every=timedelta(days=1))
    before = schedules.row()
    for _ in range(50):
        schedules.round(minutes=1)
    assert schedules.row().declared_until == before.declared_until
    schedules.round(minutes=11)
    assert schedules.row().declared_until > before.declared_until


def test_a_tick_that_is_recorded_already_is_not_missed(schedules, jobs):
    """As after a restored backup, in a process that does not declare the schedule."""
    row = schedules.declare()
    schedules.round(at=row.next_tick)
    schedules.remove()
    Schedule.objects.update(next_tick=row.next_tick)
    schedules.round(hours=3)
    assert schedules.ticks() == [("enqueued", 1)] and schedules.row().next_tick is None


@pytest.mark.parametrize("every", [timedelta(minutes=10), timedelta(seconds=2)])
def test_changed_timing_is_due_from_its_declaration_on(schedules, jobs, every):
    """Neither what was due before by the old timing was missed, nor by the new one."""
    row = schedules.declare(every=timedelta(hours=1))
    schedules.now = row.next_tick + timedelta(minutes=33)
    changed = schedules.declare(every=every, grace=1).next_tick
    assert schedules.now < changed <= schedules.now + every
    assert jobs() == [] and schedules.ticks() == []
    schedules.round(at=changed)
    assert schedules.ticks() == [("enqueued", 1)]


def test_schedule_that_is_declared_again_is_due_from_then_on(schedules, jobs):
    """What would have been due while it was removed was not missed, but for its next tick."""
    row = schedules.declare()
    schedules.remove()
    schedules.round(at=row.next_tick + timedelta(hours=3))
    schedules.now = row.next_tick + timedelta(hours=20, minutes=3)
    assert schedules.declare().next_tick == row.next_tick + timedelta(hours=20, minutes=10)
    assert jobs() == [] and schedules.ticks() == [("missed", 1)]


def test_several_schedules_are_claimed_together(schedules, jobs, settings, django_assert_max_num_queries):
    """One statement locks all that are due; an error of one of them does not keep the others from running."""
    task = {"task": "tests.jobs.tasks.noop", "every": TEN_MINUTES}
    declared = {f"poll-{number}": task for number in range(10)}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": declared}
    ticks.run_round()
    schedules.now = schedules.row("poll-0").next_tick
    with django_assert_max_num_queries(12 + 6 * len(declared)) as queries:
        assert ticks.run_round() == ticks.ROUND_INTERVAL_SECONDS
    claims = [q["sql"] for q in queries if "LIMIT 10 " in q["sql"] + " " and "next_tick" in q["sql"]]
    assert len(claims) == 1 and len(jobs()) == len(declared)


@pytest.mark.parametrize("error", [ValueError, ConnectionRefusedError])
@pytest.mark.parametrize("step", ["__init__", "record"])
def test_an_error_of_one_schedule_in_a_claim(schedules, jobs, settings, monkeypatch, step, error):
    """Those that were claimed with it are recorded one by one. The first step calls code of the project."""
    task = {"task": "tests.jobs.tasks.noop", "every": TEN_MINUTES}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": {"bad": task, "good": task}}
    ticks.run_round()
    call = getattr(ticks.DueTicks, step)

    def fail(self, row, *args, **kwargs):
        if row.name == "bad":
            raise error("bad")
        call(self, row, *args, **kwargs)

    monkeypatch.setattr(ticks.DueTicks, step, fail)
    schedules.round(at=schedules.row("good").next_tick)
    assert [job.schedule for job in jobs()] == ["good"]


def test_two_versions_of_a_timing_during_a_deployment(schedules, jobs):
    """Processes with the old and the new timing take turns: each tick of both is enqueued once."""
    row = schedules.declare(every=timedelta(minutes=10), overlap="allow")
    start = schedules.now = row.next_tick - timedelta(seconds=1)
    for second in range(0, 1300, 60):
        schedules.now = start + timedelta(seconds=second)
        for minutes in (10, 7):
            schedules.declare(every=timedelta(minutes=minutes), overlap="allow")
            schedules.round()
    due = sorted(Tick.objects.filter(outcome="enqueued").values_list("due_at", flat=True))
    seconds = [int(moment.timestamp()) for moment in due]
    first, last = int(start.timestamp()), int(schedules.now.timestamp())
    wanted = {second for second in range(first, last + 1) if second % 600 == 0}
    assert wanted <= set(seconds)
    assert len(seconds) == len(set(seconds)) == len(jobs())


def test_task_that_cannot_be_enqueued(schedules, jobs):
    """The tick is recorded with the reason, and the next one is tried again."""
    row = schedules.declare(task="tests.jobs.tasks.missing")
    schedules.round(at=row.next_tick)
    [tick] = Tick.objects.all()
    assert tick.outcome == "failed" and "missing" in tick.detail
    schedules.declare()
    schedules.round(at=row.next_tick + TEN_MINUTES)
    assert len(jobs()) == 1


def test_task_with_a_key(schedules, jobs, django_capture_on_commit_callbacks):
    """A tick within the lifetime of the key is that of the same job; task_enqueued is sent for that job once."""
    enqueued = []
    receiver = lambda **kwargs: enqueued.append(kwargs["task_result"].id)  # noqa: E731
    row = schedules.declare(task="tests.contrib.schedules.tasks.nightly", args=[1, 2])
    task_enqueued.connect(receiver)
    try:
        for n in range(2):
            with django_capture_on_commit_callbacks(execute=True):
                schedules.round(at=row.next_tick + n * TEN_MINUTES)
            run_jobs()
    finally:
        task_enqueued.disconnect(receiver)
    schedules.round()
    [job] = jobs()
    assert enqueued == [str(job.id)]
    ticks = Tick.objects.order_by("due_at")
    assert [(tick.job, tick.job_state) for tick in ticks] == [(job.id, "succeeded")] * 2
    assert [bool(tick.detail) for tick in ticks] == [False, True]


def test_task_with_a_key_that_another_call_has_used(schedules, jobs):
    """The tick is recorded with the reason, and other schedules run."""
    nightly.enqueue(0, 0)
    row = schedules.declare(task="tests.contrib.schedules.tasks.nightly", args=[1, 2])
    schedules.round(at=row.next_tick)
    [tick] = Tick.objects.all()
    assert tick.outcome == "failed" and "nightly" in tick.detail
    assert len(jobs()) == 1 and schedules.row().next_tick == row.next_tick + TEN_MINUTES


def test_schedules_that_cannot_be_prepared_delay_no_others(
    schedules, jobs, settings, monkeypatch, set_bounds
):
    """Nor are they tried without a pause, or the ends of runs left unrecorded, if more are due than one round takes."""
    set_bounds(rows=1)
    task = {"task": "tests.jobs.tasks.noop", "every": TEN_MINUTES}
    declared = dict.fromkeys(["bad-0", "bad-1", "good"], task)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": declared}
    ticks.run_round()
    prepare = ticks.DueTicks.__init__

    def fail(self, row, *args):
        if row.name.startswith("bad"):
            raise RuntimeError("cannot be computed")
        prepare(self, row, *args)

    monkeypatch.setattr(ticks.DueTicks, "__init__", fail)
    schedules.now = schedules.row("good").next_tick
    assert [schedules.round() for _ in range(3)] == [1, 1, 0]
    assert [job.schedule for job in jobs()] == ["good"]
    run_jobs()
    assert schedules.round() == 1
    assert Tick.objects.get().job_state == "succeeded"


def test_old_ticks_are_pruned(schedules, jobs_clock):
    """With the jobs, after RETENTION."""
    row = schedules.declare()
    schedules.round(at=row.next_tick)
    schedules.round(at=row.next_tick + app_settings.RETENTION)
    assert schedules.ticks()[0] == ("enqueued", 1)
    jobs_clock.advance(schedules.now - timedelta(minutes=1) - jobs_clock.now())
    call_command("notifications", "prune", days=0)
    assert [outcome for outcome, _ in schedules.ticks()] == ["missed", "skipped"]

"""Problems of schedules: their owner or group is notified when one begins, and when it is over."""

from datetime import timedelta

import pytest
from django.utils import translation

from notifications.api import policy, task
from notifications.contrib.schedules.models import Tick
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification
from notifications.testing import run_jobs


@task
@policy(notify=lambda job: {"title": "The report is ready"})
def report(fails):
    if fails:
        raise ValueError("no data")


FAILING, WORKING = "tests.jobs.tasks.fail", "tests.jobs.tasks.noop"


def test_successes_notify_nobody(schedules, titles, user):
    """A nightly job that works is no news."""
    schedules.declare(owner="ada")
    schedules.run_due(), schedules.run_due()
    assert titles(user) == []
    assert set(Tick.objects.values_list("job_state", flat=True)) == {"succeeded"}


def test_notify_function_of_the_policy_is_called_for_successes(schedules, titles, user, monkeypatch):
    """The task decides what its owner learns of a success. Failures are announced by the schedule."""
    schedules.declare(task="tests.contrib.schedules.test_runs.report", args=[False], owner="ada")
    schedules.run_due()
    assert titles(user) == ["The report is ready"]
    schedules.declare(task="tests.contrib.schedules.test_runs.report", args=[True], owner="ada")
    schedules.run_due()
    assert titles(user) == ["The report is ready", "poll has failed"]


def test_owner_is_notified_once_of_failures_and_once_of_their_end(schedules, titles, user):
    """Three failures in a row are one notification, which links to the first failed job; then it runs again."""
    schedules.declare(task=FAILING, owner="ada")
    for _ in range(3):
        schedules.run_due()
    assert titles(user) == ["poll has failed"]
    failed = Notification.objects.get()
    assert failed.level == "error" and failed.category == "schedule"
    assert str(Tick.objects.order_by("id").first().job) in failed.url
    schedules.declare(task=WORKING, owner="ada")
    schedules.run_due(), schedules.run_due()
    assert titles(user) == ["poll has failed", "poll runs again"]
    schedules.declare(task=FAILING, owner="ada")
    schedules.run_due()
    assert titles(user) == ["poll has failed", "poll runs again", "poll has failed"]


def test_group_is_notified(schedules, titles, group, user, other_user):
    """Each active member; the jobs belong to nobody."""
    other_user.is_active = False
    other_user.save()
    schedules.declare(task=FAILING, group="Operators")
    schedules.run_due()
    assert titles(user) == ["poll has failed"] and titles(other_user) == []
    assert Notification.objects.get().url == ""


def test_missed_runs(schedules, titles, user):
    """Once, however many; and when a run has succeeded again."""
    row = schedules.declare(owner="ada")
    schedules.round(at=row.next_tick + timedelta(hours=5, seconds=1))
    schedules.round()
    assert titles(user) == ["poll was not run"]
    assert Notification.objects.get().body.startswith("30 runs were missed")
    run_jobs()
    schedules.round(), schedules.round()
    assert titles(user) == ["poll was not run", "poll runs again"]


def test_state_that_changes_several_times_between_announcements(schedules, titles, user):
    """The owner was notified of a failure. Then runs succeed, fail and succeed before anyone looks: it runs again."""
    schedules.declare(task=FAILING, owner="ada", overlap="allow")
    schedules.run_due()
    assert titles(user) == ["poll has failed"]
    before = set(Tick.objects.values_list("job", flat=True))
    for _ in range(3):
        schedules.round(at=schedules.row().next_tick)
    runs = list(Tick.objects.exclude(job__in=before).order_by("due_at").values_list("job", flat=True))
    Job.objects.filter(id__in=[runs[0], runs[2]]).update(task_path=WORKING)
    run_jobs()
    schedules.round(), schedules.round()
    assert titles(user) == ["poll has failed", "poll runs again"]


def test_schedule_that_is_always_skipped(schedules, titles, user, jobs):
    """Its owner is notified at the third tick in a row, and when two ticks in a row were enqueued again."""
    row = schedules.declare(owner="ada")
    for _ in range(3):
        schedules.round(at=schedules.row().next_tick)
    assert titles(user) == []
    for _ in range(3):
        schedules.round(at=schedules.row().next_tick)
    assert titles(user) == ["poll is always skipped"]
    assert schedules.row().problem == "skipped"
    run_jobs()
    schedules.round()
    schedules.round(at=schedules.row().next_tick)
    run_jobs()
    schedules.round()
    assert titles(user) == ["poll is always skipped"]
    schedules.round(at=schedules.row().next_tick)
    assert titles(user) == ["poll is always skipped", "poll runs again"]
    assert schedules.row().problem == "" and row.name == "poll"


def test_long_runs_are_one_problem(schedules, titles, user):
    """Each run takes four ticks: the schedule is not run when it is due, however often a run succeeds."""
    schedules.declare(owner="ada")
    for _ in range(3):
        for _ in range(4):
            schedules.round(at=schedules.row().next_tick)
        run_jobs()
        schedules.round()
    assert titles(user) == ["poll is always skipped"]


def test_an_end_behind_long_runs(schedules, set_bounds):
    """It is recorded, however many jobs of the schedules before it are active."""
    set_bounds(rows=1)
    schedules.declare(overlap="allow")
    schedules.round(at=schedules.row().next_tick), schedules.round(at=schedules.row().next_tick)
    ended = Tick.objects.order_by("id").last()
    Job.objects.filter(id=ended.job).update(state="succeeded")
    schedules.round()
    assert list(Tick.objects.order_by("id").values_list("job_state", flat=True)) == ["", "succeeded"]


def test_language_of_the_owner(schedules, titles, user, settings):
    """Not that of the process."""
    settings.LANGUAGE_CODE = "de"
    schedules.declare(task=FAILING, owner="ada")
    with translation.override("fr"):
        schedules.run_due()
    with translation.override("de"):
        assert titles(user) == [translation.gettext("%(schedule)s has failed") % {"schedule": "poll"}]


@pytest.mark.django_db(transaction=True)
def test_retry_by_hand_ends_a_problem(schedules, titles, user, monkeypatch):
    """The failed job is queued again and succeeds."""
    schedules.declare(task=FAILING, owner="ada")
    schedules.run_due()
    tick = Tick.objects.get()
    assert tick.job_state == "failed"
    retry([tick.job])
    monkeypatch.setattr("tests.jobs.tasks.fail", None)
    Job.objects.update(task_path=WORKING)
    run_jobs()
    schedules.round(), schedules.round()
    assert titles(user) == ["poll has failed", "poll runs again"]
    assert Tick.objects.get().job_state == "succeeded"


@pytest.mark.django_db(transaction=True)
def test_cancelled_run_is_no_problem(schedules, titles, user):
    """The owner has decided so, and learns nothing new."""
    row = schedules.declare(owner="ada")
    schedules.round(at=row.next_tick)
    cancel([Tick.objects.get().job], by=user.pk)
    schedules.round(), schedules.round()
    assert Tick.objects.get().job_state == "cancelled" and titles(user) == []


def test_deleted_job(schedules):
    """Its tick does not stay active for ever."""
    row = schedules.declare()
    schedules.round(at=row.next_tick)
    Job.objects.all().delete()
    schedules.round()
    assert Tick.objects.get().job_state == "deleted"


def test_job_that_cannot_be_enqueued(schedules, titles, user):
    """The owner learns of it, without the words of the exception."""
    row = schedules.declare(task="tests.jobs.tasks.missing", owner="ada")
    schedules.round(at=row.next_tick), schedules.round()
    assert titles(user) == ["poll has failed"]
    assert Notification.objects.get().body == "Its job could not be enqueued."


@pytest.mark.parametrize("options", [{"owner": "nobody"}, {"group": "Nobody"}, {}])
def test_without_readers(schedules, jobs, options):
    """The jobs run all the same."""
    schedules.declare(task=FAILING, **options)
    schedules.run_due(), schedules.run_due()
    assert [job.state for job in jobs()] == ["failed", "failed"]
    assert not Notification.objects.exists()

"""When a job may begin and when it expires: run_after and expires, in seconds, as timedeltas and as datetimes."""

import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.utils import timezone as django_timezone

from notifications.api import policy
from notifications.models import Job
from tests.jobs import tasks

NAN, INFINITY = float("nan"), float("inf")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
#: What no duration may be, with the kind of error.
WRONG = [
    (True, TypeError),
    ("60", TypeError),
    (NOON.date(), TypeError),
    (-1, ValueError),
    (timedelta(seconds=-1), ValueError),
    (NAN, ValueError),
    (INFINITY, ValueError),
    (10**12, ValueError),
    (10**400, ValueError),
    (timedelta.max, ValueError),
]


@pytest.mark.parametrize(("value", "error"), [*WRONG, (0, ValueError), (timedelta(), ValueError)])
def test_a_wrong_expiry(value, error):
    with pytest.raises(
        error, match=r"expires is .*\. It must be an aware datetime, or .* above 0 and at most 3,660 days\."
    ):
        tasks.noop.using(expires=value)
    with pytest.raises(
        error, match=r"expires is .*\. It must be a number of seconds, or a timedelta, above 0 and at most"
    ):
        policy(expires=value)


@pytest.mark.parametrize(("value", "error"), WRONG)
def test_a_wrong_run_after(value, error):
    with pytest.raises(
        error, match=r"run_after is .*\. It must be an aware datetime, or .* of 0 or more and"
    ):
        tasks.noop.using(run_after=value)


def test_a_policy_takes_no_datetime():
    with pytest.raises(TypeError, match="It must be a number of seconds, or a timedelta"):
        policy(expires=NOON)


def test_naive_datetimes():
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match=r"expires is .* It must be an aware datetime"):
        tasks.noop.using(expires=naive)
    with pytest.raises(Exception, match="run_after must be an aware datetime"):
        tasks.noop.using(run_after=naive)


@pytest.mark.django_db
def test_naive_datetimes_of_a_project_without_time_zones(settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    tasks.noop.using(expires=datetime(2030, 1, 1, 13), run_after=datetime(2030, 1, 1, 12)).enqueue()
    job = Job.objects.get()
    assert (job.expires_at, job.run_after) == (NOON, NOON - timedelta(hours=1))


@pytest.mark.django_db
@pytest.mark.parametrize("value", [90, 90.0, timedelta(seconds=90)])
def test_durations_count_from_the_call_of_enqueue(value):
    """Not from that of using(), whose result may be kept in a module."""
    changed = tasks.noop.using(run_after=value, expires=value)
    clock_before = django_timezone.now()
    job = Job.objects.get(id=changed.enqueue().id)
    due_in = job.run_after - clock_before
    assert timedelta(seconds=90) <= due_in < timedelta(seconds=100)
    assert job.expires_at - job.run_after == timedelta(seconds=90), "it is counted from when the job is due"
    again = Job.objects.get(id=changed.enqueue().id)
    assert again.run_after > job.run_after


@pytest.mark.django_db
def test_the_last_run_after_counts():
    for task in (
        tasks.noop.using(run_after=60).using(run_after=NOON),
        tasks.noop.using(run_after=NOON).using(title="Mine"),
    ):
        assert Job.objects.get(id=task.enqueue().id).run_after == NOON
    due = tasks.noop.using(run_after=NOON).using(run_after=0)
    assert Job.objects.get(id=due.enqueue().id).run_after is None


@pytest.mark.django_db
def test_an_expiry_of_a_job_for_the_past_counts_from_now():
    task = tasks.noop.using(run_after=django_timezone.now() - timedelta(days=1), expires=60)
    assert Job.objects.get(id=task.enqueue().id).expires_at > django_timezone.now() + timedelta(seconds=50)


@pytest.mark.django_db
def test_a_time_that_no_database_stores():
    latest = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
    for options in (
        {"expires": latest},
        {"run_after": latest},
        {"run_after": NOON.replace(year=9999), "expires": 1e8},
    ):
        with pytest.raises(ValueError, match="Both must be between the years 1 and 9999"):
            tasks.noop.using(**options).enqueue()


def test_another_backend_gets_a_datetime(settings):
    package = "django.tasks" if "django.tasks" in sys.modules else "django_tasks"
    dummy = f"{package}.backends.dummy.DummyBackend"
    settings.TASKS = {**settings.TASKS, "other": {"BACKEND": dummy}}
    before = django_timezone.now()
    task = tasks.noop.using(backend="other", run_after=60)
    assert timedelta(seconds=60) <= task.run_after - before < timedelta(seconds=70)

"""Incidents are recorded from failed jobs, whenever that is done, and stay when the jobs are retried."""

from datetime import timedelta

import pytest
from django.test.utils import CaptureQueriesContext

from notifications.conf import settings
from notifications.contrib.operations.incidents import recording
from notifications.contrib.operations.models import AffectedUser, Incident
from notifications.db import connection
from notifications.jobs import retry
from notifications.models import Attempt, Job
from notifications.testing import run_jobs
from tests.contrib.operations.test_night import TASK, Night, make_people
from tests.jobs import tasks
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def night(jobs_clock, user):
    return Night(jobs_clock, [user.pk])


@pytest.fixture
def short_rounds(monkeypatch, set_bounds):
    """Each round records two failed jobs."""
    set_bounds(rows=2)
    monkeypatch.setattr(recording, "MAX_CHUNKS", 1)


def record(night, minutes=0):
    night.clock.advance(timedelta(minutes=minutes))
    run_duty("record failures")
    return list(Incident.objects.order_by("id"))


def test_it_is_not_over_while_none_succeeds(night):
    """A task that is not called at night may fail on the next day."""
    night.end_jobs(succeeded=5, failed=1)
    assert record(night, minutes=60)[0].over_at is None
    night.end_jobs(succeeded=1, failed=0)
    [incident] = record(night, minutes=1)
    assert incident.over_at == incident.failed_at


def test_it_is_over_when_its_task_has_had_no_job_for_hours(night):
    """A task that was removed, or is called no more, would have its alert for as long as incidents are kept."""
    night.end_jobs(succeeded=0, failed=1)
    assert record(night, minutes=5 * 60)[0].over_at is None
    night.end_jobs(succeeded=0, failed=1)
    Attempt.objects.filter(job=Job.objects.latest("finished_at")).update(location="another")
    first, second = record(night, minutes=5 * 60)
    assert (first.over_at, second.over_at) == (None, None)
    first, second = record(night, minutes=62)
    assert (first.over_at, second.over_at) == (first.failed_at, second.failed_at)


def test_another_one_begins_after_hours_without_a_job(night):
    """Whether or not it was recorded meanwhile that the first one is over."""
    night.end_jobs(succeeded=0, failed=1)
    record(night)
    night.clock.advance(timedelta(hours=7))
    night.end_jobs(succeeded=0, failed=1)
    first, second = record(night)
    assert first.over_at == first.failed_at and second.over_at is None


def test_each_of_many_incidents_is_over_in_its_turn(night):
    fields = {"begun_at": night.now, "failed_at": night.now}
    last = Incident.objects.create(key="f" * 32, task_path=TASK, **fields)
    Incident.objects.bulk_create(
        Incident(key=f"{number:032}", task_path="shop.tasks.other", **fields) for number in range(300)
    )
    night.clock.advance(timedelta(hours=1))
    night.end_jobs(succeeded=1, failed=0)
    for _ in range(2):
        record(night, minutes=1)
    assert list(Incident.objects.filter(over_at__isnull=False)) == [last]


def test_none_is_over_while_failures_are_not_recorded_yet(night, short_rounds):
    """The job that succeeded meanwhile did so between failures that were not read yet."""
    night.end_jobs(succeeded=0, failed=1)
    record(night)
    for _ in range(4):
        night.clock.advance(timedelta(minutes=4))
        night.end_jobs(succeeded=1, failed=1)
    night.clock.advance(timedelta(minutes=1))
    for _ in range(4):
        [incident] = record(night)
    assert incident.over_at is None and incident.failed_at == Job.objects.latest("finished_at").finished_at


def test_who_is_affected_is_kept_as_long_as_the_incident(night):
    """A user who was affected by an old failure is not deleted before those of the last one."""
    night.end_jobs(succeeded=0, failed=1)
    record(night)
    night.clock.advance(settings.RETENTION - timedelta(hours=1))
    Incident.objects.update(failed_at=night.now)
    night.clock.advance(timedelta(hours=2))
    run_duty("prune old rows")
    record(night)
    assert Incident.objects.exists() and AffectedUser.objects.exists()
    night.clock.advance(settings.RETENTION)
    record(night)
    assert not Incident.objects.exists() and not AffectedUser.objects.exists()


def test_it_begins_with_the_first_failure_however_often_it_is_retried(night):
    [failed] = [tasks.fail.enqueue().id]
    run_jobs()
    begun = record(night)[0].begun_at
    assert begun == Job.objects.get().finished_at
    for _ in range(2):
        night.clock.advance(120)
        retry([Job.objects.get(pk=failed).pk])
        record(night)
        run_jobs()
        [incident] = record(night)
        assert (incident.begun_at, incident.failed_at) == (begun, Job.objects.get().finished_at)


def test_what_was_not_recorded_in_time_is_recorded_as_if_it_were(night):
    """While no process was there to do so, an incident was over and another one began."""
    night.end_jobs(succeeded=0, failed=2)
    night.clock.advance(timedelta(minutes=10))
    night.end_jobs(succeeded=1, failed=0)
    night.clock.advance(timedelta(minutes=10))
    night.end_jobs(succeeded=0, failed=3)
    first, second = record(night)
    assert first.over_at == first.failed_at == first.begun_at
    assert second.begun_at - first.begun_at >= timedelta(minutes=20) and second.over_at is None
    assert record(night) == [first, second] and AffectedUser.objects.count() == 2


def test_a_clock_that_was_fast_keeps_no_incident(night):
    """Nor does it keep others from being recorded."""
    night.clock.advance(timedelta(days=3650))
    night.end_jobs(succeeded=0, failed=1)
    assert record(night)[0].over_at is None
    night.clock.reset()
    night.end_jobs(succeeded=0, failed=1)
    wrong, true = record(night)
    assert (wrong.over_at is None, true.over_at) == (False, None)


def test_each_error_and_each_place_is_an_incident(night):
    night.end_jobs(succeeded=0, failed=3)
    first, second, _ = Job.objects.order_by("id")
    Attempt.objects.filter(job=first).update(exception_class_path="", location="", outcome="lost")
    Attempt.objects.filter(job=second).update(location="shop.tasks.fetch_orders, line 20")
    assert len({(row.exception_class_path, row.location) for row in record(night)}) == 3


@pytest.mark.parametrize(
    ("message", "host"),
    [
        (
            "requests.ConnectTimeout: HTTPSConnectionPool(host='partner.example', port=443): Max retries",
            "partner.example",
        ),
        (
            "httpx.ReadTimeout: https://me:secret@api.partner.example:8443/x?y did not answer",
            "api.partner.example",
        ),
        ("ConnectError: https://me:s3@cret@api.partner.example/x?y: refused", "api.partner.example"),
        ("ConnectError: https://me:s3/cret@api.partner.example/", ""),
        ("ConnectError: https://me:33/cret@api.partner.example/", ""),
        ("ConnectError: https://me:s3 cret@api.partner.example/", ""),
        ("ConnectError: https://me:33 cret@api.partner.example/", ""),
        ("ConnectError: https://api.partner.example/users?email=me@home.example", ""),
        ("ConnectError: https://api.partner.example: refused", "api.partner.example"),
        ("ConnectError: no answer of https://api.partner.example.", "api.partner.example"),
        ("httpx.ReadTimeout", ""),
        ("https://other.example/ was called\nValueError: no", ""),
        ("", ""),
    ],
)
def test_the_host_that_an_error_names(night, message, host):
    night.end_jobs(succeeded=0, failed=1)
    Attempt.objects.update(traceback=f"Traceback:\n{message}\n")
    assert record(night)[0].host == host


@pytest.mark.long
def test_more_failures_than_one_transaction_records(night):
    for _ in range(3):
        night.end_jobs(succeeded=0, failed=700)
        night.clock.advance(1)
    assert len(record(night)) == 1
    assert Incident.objects.get().failed_at == Job.objects.order_by("-finished_at")[0].finished_at


def test_more_failures_at_one_time_than_a_round_records(night, short_rounds):
    """As when all jobs of a worker that was lost fail in one statement."""
    night.users = make_people(5)
    night.end_jobs(succeeded=0, failed=5)
    for _ in range(3):
        record(night)
    assert AffectedUser.objects.count() == 5


def test_nothing_is_written_where_nothing_fails(night):
    """But now and then until when failures were read, and what failed meanwhile is recorded."""
    night.end_jobs(succeeded=0, failed=1)
    record(night)
    record(night, minutes=2)
    for minutes, is_written in ((1, False), (8, False), (3, True), (1, False)):
        with CaptureQueriesContext(connection()) as queries:
            record(night, minutes=minutes)
        assert ("UPDATE" in str(queries.captured_queries)) is is_written
    night.end_jobs(succeeded=0, failed=1)
    [incident] = record(night, minutes=1)
    assert incident.failed_at == Job.objects.latest("finished_at").finished_at

"""Times with and without USE_TZ: aware in Python, UTC in the database, also in the repeated hour of a clock change."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from notifications.api import notify
from notifications.db import database_now
from notifications.models import Notification, Worker
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.checks import doctor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

#: Clocks were set back in Berlin at 01:00 UTC of this day, so 02:30 came twice.
CLOCK_CHANGE = datetime(2025, 10, 26, 1, 0, tzinfo=UTC)


@pytest.fixture
def naive(transactional_db):
    """A project in Berlin with USE_TZ = False."""
    connection.close()
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        yield
        connection.close()


@pytest.fixture(params=[True, False], ids=["USE_TZ", "naive"])
def either(request):
    if not request.param:
        request.getfixturevalue("naive")


def test_times_are_read_as_they_were_written(either):
    """Also two times that are the same local time."""
    for minutes in (-90, -30, 30, 90):
        moment = CLOCK_CHANGE + timedelta(minutes=minutes)
        worker = Worker.objects.create(
            host="h", process="p", started_at=moment, lease_until=moment, concurrency=1
        )
        stored = Worker.objects.get(pk=worker.pk)
        assert stored.lease_until == moment
        assert stored.lease_until.utcoffset() == timedelta(0)
        assert Worker.objects.filter(pk=worker.pk, lease_until__gte=moment).exists()
        assert not Worker.objects.filter(pk=worker.pk, lease_until__gt=moment).exists()


def test_a_clock_change_does_not_extend_leases(either, set_now):
    """A worker that renewed before the change is lost 20 s later, not an hour later."""
    before = CLOCK_CHANGE - timedelta(seconds=5)
    set_now(before)
    if connection.vendor == "sqlite":
        assert database_now() == before
    until = before + timedelta(seconds=20)
    Worker.objects.create(host="h", process="p", started_at=before, lease_until=until, concurrency=1)
    assert Worker.objects.filter(lease_until__gte=CLOCK_CHANGE + timedelta(seconds=10)).exists()
    assert not Worker.objects.filter(lease_until__gte=CLOCK_CHANGE + timedelta(seconds=20)).exists()


def test_the_database_clock_is_aware(either):
    assert abs(database_now() - datetime.now(UTC)) < timedelta(seconds=60)


def test_doctor_and_a_job_without_time_zones(naive, user):
    """The clocks are compared, a delayed job with a local time becomes due in time, and times are shown in UTC."""
    assert doctor("tables")[0]["state"] == "ok"
    later = tasks.noop.using(owner=user, run_after=timezone.now() + timedelta(hours=1)).enqueue()
    due = tasks.noop.using(owner=user, run_after=timezone.now() - timedelta(seconds=1)).enqueue()
    notify(user, "Hello")
    run_jobs()
    done = {str(row.job) for row in Notification.objects.exclude(job=None)}
    assert done == {due.id}
    assert later.id not in done
    for row in Notification.objects.all():
        assert abs(row.created_at - datetime.now(UTC)) < timedelta(seconds=60)

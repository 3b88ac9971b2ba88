"""Moments with and without USE_TZ: aware in Python, UTC in the database, also while local times come twice."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from notifications import times
from notifications.api import notify
from notifications.diagnosis import database
from notifications.jobs.transitions.guards import database_now
from notifications.models import Notification, Worker
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

#: Clocks went back in Berlin at 01:00 UTC of this day: 02:30 came twice.
BACK = datetime(2025, 10, 26, 1, 0, tzinfo=UTC)


@pytest.fixture
def naive(transactional_db):
    """A project without time zones, in Berlin."""
    connection.close()
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        yield
        connection.close()


@pytest.fixture(params=[True, False], ids=["USE_TZ", "naive"])
def either(request):
    if not request.param:
        request.getfixturevalue("naive")


def test_moments_come_back_as_they_were(either):
    """Also both of those that are the same local time."""
    for minutes in (-90, -30, 30, 90):
        moment = BACK + timedelta(minutes=minutes)
        worker = Worker.objects.create(
            host="h", process="p", started_at=moment, lease_until=moment, concurrency=1
        )
        kept = Worker.objects.get(pk=worker.pk)
        assert kept.lease_until == moment
        assert kept.lease_until.utcoffset() == timedelta(0)
        assert Worker.objects.filter(pk=worker.pk, lease_until__gte=moment).exists()
        assert not Worker.objects.filter(pk=worker.pk, lease_until__gt=moment).exists()


def test_a_lease_is_as_long_when_clocks_go_back(either, monkeypatch):
    """A worker that renewed before it is lost 20 s later, not an hour later."""
    before = BACK - timedelta(seconds=5)
    monkeypatch.setattr(times, "now", lambda: before)
    if connection.vendor == "sqlite":
        assert database_now() == before
    until = before + timedelta(seconds=20)
    Worker.objects.create(host="h", process="p", started_at=before, lease_until=until, concurrency=1)
    assert Worker.objects.filter(lease_until__gte=BACK + timedelta(seconds=10)).exists()
    assert not Worker.objects.filter(lease_until__gte=BACK + timedelta(seconds=20)).exists()


def test_the_clock_is_that_of_the_database(either):
    """Aware, about now."""
    assert abs(database_now() - datetime.now(UTC)) < timedelta(seconds=60)


def test_doctor_and_a_job_without_time_zones(naive, django_user_model):
    """The clock is compared, a delayed job of local time is due in time, and what is shown is UTC."""
    assert database.check_clock().state == "ok"
    user = django_user_model.objects.create_user("ada")
    later = tasks.noop.using(owner=user, run_after=timezone.now() + timedelta(hours=1)).enqueue()
    due = tasks.noop.using(owner=user, run_after=timezone.now() - timedelta(seconds=1)).enqueue()
    notify(user, "Hello")
    run_jobs()
    done = {str(row.job) for row in Notification.objects.exclude(job=None)}
    assert done == {due.id}
    assert later.id not in done
    for row in Notification.objects.all():
        assert abs(row.created_at - datetime.now(UTC)) < timedelta(seconds=60)

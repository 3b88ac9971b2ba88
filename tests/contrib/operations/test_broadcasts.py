"""The users whom an incident affects, as an audience."""

from datetime import timedelta

import pytest

from notifications.contrib.operations.broadcasts import find_audience, record_broadcast
from notifications.contrib.operations.models import Incident
from notifications.models import uuid7
from tests.contrib.operations.test_night import Night
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def incident(jobs_clock, user):
    Night(jobs_clock, [user.pk]).end_jobs(0, 1)
    run_duty("record failures")
    return Incident.objects.get()


@pytest.mark.parametrize(
    "value", ["{id}:begin:0:9:0", "{id}:begin:0", "{id}:x:0:9", "{id}:begin:x:9", "", "0:begin:0:9"]
)
def test_no_audience_has_this_value(incident, value):
    assert find_audience(value.format(id=incident.pk)) is None


def test_it_has_no_users_who_are_not_recorded_yet(incident):
    assert find_audience(f"{incident.pk}:begin:0:{10**17}").until == incident.last_user


def test_the_end_is_recorded_once_and_after_the_begin_when_it_is_over(incident):
    begin, end = (f"{incident.pk}:{message}:0:{incident.last_user}" for message in ("begin", "end"))
    over = {"over_at": incident.failed_at + timedelta(minutes=1)}
    Incident.objects.update(**over)
    assert not record_broadcast(end, uuid7(), "grace"), "they know nothing of it"
    Incident.objects.update(over_at=None)
    assert record_broadcast(begin, uuid7(), "grace")
    assert not record_broadcast(end, uuid7(), "grace"), "it is not over"
    Incident.objects.update(**over)
    assert [record_broadcast(end, uuid7(), "grace") for _ in range(2)] == [True, False]

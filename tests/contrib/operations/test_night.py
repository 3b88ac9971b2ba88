"""A night at a partner's that fails a third of the calls, then all, then answers again."""

import pytest

from notifications.contrib.operations.models import Alert, Incident
from notifications.models import Notification
from tests.contrib.operations.night import TASK, Night

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator(make_user):
    """Return a user who receives alerts."""
    return make_user("operator", is_superuser=True)


def mails(user):
    """Return title and body of what a user was notified of alerts, the oldest first."""
    rows = Notification.objects.filter(user=user, category="alert", title__contains=TASK)
    return list(rows.order_by("id").values_list("title", "body"))


def test_since_when_and_until_when(jobs_clock, make_user, operator, user):
    """One incident and one alert from the first failure to the last, with its numbers, cause and people."""
    night = Night(jobs_clock, [user.pk])
    night.run(minutes=3, failing=0)
    assert night.doctor() == [] and mails(operator) == []
    night.run(minutes=8, failing=1 / 3)
    [incident] = Incident.objects.all()
    begun = incident.begun_at
    assert (incident.host, incident.users, incident.over_at) == ("partner.example", 1, None)
    [said] = night.doctor()
    assert said.startswith(f"{TASK}: fetch_orders failing since {begun:%H:%M}: ")
    assert said.endswith(f"{night.failed} of 100, ConnectTimeout at partner.example, 1 person")
    [(title, body)] = mails(operator)
    assert title == f"Many jobs fail: {TASK}"
    night.run(minutes=6, failing=1)
    night.run(minutes=4, failing=0)
    [incident] = Incident.objects.all()
    assert (incident.begun_at, incident.over_at) == (begun, None)
    night.run(minutes=3, failing=0)
    [incident] = Incident.objects.all()
    assert incident.over_at == incident.failed_at and night.doctor() == []
    [_, (title, body)] = mails(operator)
    assert title == f"Over: Many jobs fail: {TASK}"
    assert body == f"fetch_orders: over since {incident.over_at:%H:%M}, lasted 13 min"
    assert Alert.objects.filter(kind="failures").count() == 1

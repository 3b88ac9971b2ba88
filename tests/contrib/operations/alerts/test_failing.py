"""Which failing tasks an alert is about, while some of its errors are over and others begin."""

import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from notifications.contrib.operations.models import Alert, Incident
from notifications.models import Notification
from tests.contrib.operations.test_night import LOCATION, TASK, TIMEOUT, TRACEBACK, Night, mails
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)

PRICES = "shop.tasks.fetch_prices"
AT_HOST = (TIMEOUT, LOCATION, TRACEBACK)
OF_ITS_OWN = ("builtins.KeyError", "shop.tasks.parse, line 9", "KeyError: 'price'")


@pytest.fixture
def night(jobs_clock, operator, user):
    return Night(jobs_clock, [user.pk])


def pass_minutes(night, minutes, *failed):
    """Let jobs of both tasks succeed each minute, and so many fail: (task, error, count)."""
    for _ in range(minutes):
        night.clock.advance(timedelta(minutes=1))
        for task in (TASK, PRICES):
            night.end_jobs(1, 0, task=task)
        for task, error, count in failed:
            night.end_jobs(0, count, task=task, error=error)
        run_duty("record failures"), run_duty("evaluate alerts")
    run_duty("announce problems")


def open_alerts():
    return list(Alert.objects.filter(kind="failures", closed_at=None).order_by("id"))


@pytest.mark.long
def test_another_outage_of_a_host_is_an_alert_of_its_own(night):
    """An open alert does not take an error in that was over before, though the task fails with another one."""
    pass_minutes(night, 2, (TASK, AT_HOST, 12))
    pass_minutes(night, 8, (TASK, OF_ITS_OWN, 12))
    assert Incident.objects.get(host="partner.example").over_at
    pass_minutes(night, 2, (TASK, OF_ITS_OWN, 12), (PRICES, AT_HOST, 50))
    assert [alert.subject for alert in open_alerts()] == [TASK, PRICES]
    assert all("Also" not in text for text in night.doctor())


@pytest.mark.long
def test_another_error_of_a_task_that_was_over_is_an_alert_of_its_own(night):
    """But the task after which an open alert is called stays part of it: two of one name would be one."""
    pass_minutes(night, 2, (TASK, AT_HOST, 12), (PRICES, AT_HOST, 12))
    pass_minutes(night, 8, (TASK, AT_HOST, 12))
    pass_minutes(night, 2, (TASK, AT_HOST, 12), (PRICES, OF_ITS_OWN, 12))
    assert [alert.subject for alert in open_alerts()] == [TASK, PRICES]
    pass_minutes(night, 8, (PRICES, OF_ITS_OWN, 12))
    assert [alert.subject for alert in open_alerts()] == [PRICES]
    pass_minutes(night, 2, (PRICES, OF_ITS_OWN, 12), (TASK, OF_ITS_OWN, 12))
    assert [alert.subject for alert in open_alerts()] == [PRICES, TASK]


def test_the_task_of_the_name_fails_again(night, operator):
    pass_minutes(night, 2, (TASK, AT_HOST, 12), (PRICES, AT_HOST, 12))
    pass_minutes(night, 8, (PRICES, AT_HOST, 12))
    assert Incident.objects.get(task_path=TASK).over_at
    pass_minutes(night, 2, (PRICES, AT_HOST, 12), (TASK, OF_ITS_OWN, 12))
    [alert] = open_alerts()
    assert alert.subject == TASK and alert.detail.endswith(". Also: fetch_prices")
    assert len(mails(operator)) == 1


def test_the_error_that_is_named_is_not_over(night):
    pass_minutes(night, 2, (TASK, AT_HOST, 12))
    pass_minutes(night, 3, (TASK, AT_HOST, 1), (TASK, OF_ITS_OWN, 12))
    assert "ConnectTimeout at" in open_alerts()[0].detail and "1 other error" in open_alerts()[0].detail
    pass_minutes(night, 6, (TASK, OF_ITS_OWN, 12))
    [alert] = open_alerts()
    assert "KeyError at shop.tasks.parse, line 9, 1 person" in alert.detail


def test_a_task_with_a_long_path(night):
    """The alert is called by the beginning of it, and says what it says of any task, in each round."""
    long = f"shop.{'x' * 300}.fetch_orders"
    pass_minutes(night, 3, (long, AT_HOST, 12))
    [alert] = open_alerts()
    assert alert.subject == long[:200] and alert.detail.endswith(
        "36 of 36, " + f"ConnectTimeout at {LOCATION}, 1 person"
    )
    [action] = json.loads(Notification.objects.get(title__startswith="Many jobs fail").data)["actions"]
    assert parse_qs(urlsplit(action["url"]).query)["task_path"] == [long]

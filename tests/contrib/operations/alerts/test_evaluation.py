"""An alert is notified once when it begins and once when it is over, whatever the number of processes."""

import json
import logging
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from notifications.contrib.operations.alerts import evaluation
from notifications.contrib.operations.models import Alert, AlertState
from notifications.extension import Finding, Upkeep, Where
from notifications.models import Notification
from tests.jobs import tasks
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.threads import run_in_threads

STALLED = "stalled", Finding("mail", {"count": 1, "age": 400, "limit": 300})
DETAIL = "1 job runs, for 6 min. None has ended for 5 min."


def record(*findings, seconds=0.0):
    evaluation.record_findings(findings, timezone.now() + timedelta(seconds=seconds))
    run_duty("announce problems")


def test_many_processes(alerts, operator):
    """Ten that find and lose the condition at the same time."""
    run_in_threads(*[lambda: record(STALLED)] * 10)
    assert alerts.notified(operator) == ["Queue finishes nothing: mail"]
    run_in_threads(*[lambda: record(seconds=61)] * 10)
    assert alerts.notified(operator) == ["Queue finishes nothing: mail", "Over: Queue finishes nothing: mail"]
    assert Alert.objects.get().closed_at is not None


def test_condition_that_comes_and_goes_is_one_episode(alerts, operator):
    """It must have been absent for a time."""
    record(STALLED)
    record(seconds=30)
    record(STALLED, seconds=50)
    record(seconds=100)
    assert len(alerts.notified(operator)) == 1
    record(seconds=111)
    record(STALLED, seconds=200)
    assert len(alerts.notified(operator)) == 3


def test_a_check_that_fails_ends_no_alert(alerts, operator):
    """What it would find is not known. The alerts of others end."""
    record(STALLED)
    later = timezone.now() + timedelta(seconds=61)
    evaluation.record_findings((), later, {"stalled"})
    assert Alert.objects.get().closed_at is None
    evaluation.record_findings((), later, {"failures"})
    assert Alert.objects.get().closed_at is not None


def test_log_lines(alerts, caplog):
    """One for each begin and end."""
    caplog.set_level(logging.INFO, "notifications.alerts")
    record(STALLED)
    record(STALLED)
    record(seconds=61)
    assert [record.getMessage() for record in caplog.records] == [
        f"Alert opened: Queue finishes nothing: mail. {DETAIL}",
        "Alert closed: Queue finishes nothing: mail",
    ]


def test_notification(alerts, operator):
    """It leads to the overview, and to the jobs; the one of the end replaces the unread one of the begin."""
    record(STALLED)
    begin = Notification.objects.get()
    assert (begin.url, begin.level, begin.body) == (
        "/admin/notifications_operations/overview/",
        "error",
        DETAIL,
    )
    jobs = "/admin/notifications/job/?state__exact=running&queue_name=mail&deliveries=shown"
    assert json.loads(begin.data)["actions"] == [{"label": "Jobs", "url": jobs}]
    record(seconds=61)
    end = Notification.objects.exclude(id=begin.id).get()
    assert (end.level, end.archived_at) == ("success", None)
    begin.refresh_from_db()
    assert begin.archived_at is not None


def test_recipients(alerts, make_user, operator):
    """Users with the permission, by a group too, and superusers; none who is inactive or lacks it."""
    permission = Permission.objects.get(codename="receive_alerts")
    group = Group.objects.create(name="operators")
    group.permissions.add(permission)
    make_user("nobody", is_staff=True)
    by_user, by_group, inactive = make_user("a"), make_user("b"), make_user("c", is_active=False)
    for user in (by_user, inactive):
        user.user_permissions.add(permission)
    by_group.groups.add(group)
    record(STALLED)
    notified = Notification.objects.values_list("user", flat=True)
    assert sorted(notified) == sorted([operator.pk, by_user.pk, by_group.pk])


def test_without_recipients(db, transactional_db):
    """The alert is stored and logged all the same."""
    record(STALLED)
    assert Alert.objects.filter(closed_at=None).count() == 1
    assert not Notification.objects.exists()


@pytest.mark.long
def test_number_of_open_alerts_is_bounded(alerts, operator):
    """However many queues a project has."""
    for _ in range(2):
        record(
            *(
                ("no_worker", Finding(str(number), {"age": 61, "reasons": {"no_worker": 1}}))
                for number in range(105)
            )
        )
    assert len(alerts.open()) == len(alerts.notified(operator)) == 100


def test_old_alerts_are_deleted(alerts):
    """With the retention; open ones stay."""
    old = timezone.now() - timedelta(days=40)
    for closed_at in (old, None):
        Alert.objects.create(
            kind="wait", subject=str(closed_at), opened_at=old, seen_at=timezone.now(), closed_at=closed_at
        )
    evaluation.evaluate()
    assert [alert.closed_at for alert in Alert.objects.all()] == [None]


def test_doctor(alerts):
    """What an alert would be about is an error with the same text, at once; that alerts are open is said too."""
    assert doctor("alerts")[0]["message"] == "No alert is open."
    alerts.limit(wait=0.000001)
    tasks.noop.enqueue()
    (found,) = doctor("wait")
    assert found["state"] == "error" and found["message"].startswith("default: 1 job waits, for ")
    assert found["subject"] == "default" and found["figures"]["count"] == 1 and found["since"]
    assert "NOTIFICATIONS['ALERTS']" in found["remedy"]
    alerts.evaluate()
    assert doctor("alerts")[0]["message"] == "Open: Jobs wait too long: default."


def test_all_alerts_off(alerts, operator):
    """By the interval None: no process evaluates, and `doctor` says so."""
    alerts.limit(interval=None, wait=0.000001)
    tasks.noop.enqueue()
    process = Upkeep(Where.SERVER, seconds=0.05)
    process.run_round()
    process.project_threads.end(5)
    assert not AlertState.objects.exists() and alerts.notified(operator) == []
    assert "Off" in doctor("alerts")[0]["message"]

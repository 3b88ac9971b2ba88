"""Handlers get the notifications of a broadcast."""

import json

import pytest

from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.support.statements import preceded

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.with_all_apps("the handlers of events are those of webhooks"),
]

HANDLER = "tests.contrib.webhooks.handlers.tasks.handle_too"


def test_each_recipient_has_a_job(make_user, make_broadcast, settings, set_rows_per_transaction):
    """In the transaction of the notification, which has as many rows as without handlers."""
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "HANDLERS": {"notification.created": [HANDLER], "job.succeeded": [HANDLER]},
    }
    set_rows_per_transaction(4, jobs_per_notification=1.0)
    for number in range(4):
        make_user(f"user{number}")
    broadcast = make_broadcast()
    sizes = []
    with preceded(
        'UPDATE "notifications_broadcasts_broadcast" SET "position"',
        lambda: sizes.append(Notification.objects.filter(broadcast=broadcast.pk).count()),
        times=None,
    ):
        run_jobs()
    events = [json.loads(job.args)[0] for job in Job.objects.filter(task_path=HANDLER)]
    sent = [event["id"] for event in events if event["job"] is None]
    assert sorted(sent) == sorted(str(row.pk) for row in Notification.objects.filter(broadcast=broadcast.pk))
    of_end = [event["type"] for event in events if event["job"] is not None]
    assert sorted(of_end) == ["job.succeeded", "notification.created"]
    assert sizes == [0, 2, 4], "Two of five are in each transaction, with their jobs."

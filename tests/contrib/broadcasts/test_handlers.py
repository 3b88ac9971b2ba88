"""Handlers get the notifications of a broadcast."""

import json

import pytest

from notifications.contrib.broadcasts import sending
from notifications.jobs import notifying
from notifications.models import Job, Notification
from notifications.testing import run_jobs

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.with_all_apps("the handlers of events are those of webhooks"),
]

HANDLER = "tests.contrib.webhooks.handlers.tasks.handle_too"


def test_each_recipient_has_a_job(make_user, make_broadcast, settings, monkeypatch):
    """In the transaction of the notification, which has as many rows as without handlers."""
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "HANDLERS": {"notification.created": [HANDLER], "job.succeeded": [HANDLER]},
    }
    create, sizes = sending.create_chunk, []

    def count(notifications, *args, **kwargs):
        sizes.append(len(notifications))
        return create(notifications, *args, **kwargs)

    monkeypatch.setattr(sending, "create_chunk", count)
    monkeypatch.setattr(notifying, "MAX_ROWS_PER_TRANSACTION", 4)
    # As after a first transaction: then it is known how many jobs handlers add to a notification.
    monkeypatch.setitem(notifying.jobs_added, "notifications", 1.0)
    for number in range(4):
        make_user(f"user{number}")
    broadcast = make_broadcast()
    run_jobs()
    events = [json.loads(job.args)[0] for job in Job.objects.filter(task_path=HANDLER)]
    sent = [event["id"] for event in events if event["job"] is None]
    assert sorted(sent) == sorted(str(row.pk) for row in Notification.objects.filter(broadcast=broadcast.pk))
    of_end = [event["type"] for event in events if event["job"] is not None]
    assert sorted(of_end) == ["job.succeeded", "notification.created"]
    assert sizes == [2, 2, 1]

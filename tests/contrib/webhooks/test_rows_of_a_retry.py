"""How many rows a retry by hand adds where a user has many webhooks."""

import pytest
from django.apps import apps
from django.db.models import Q
from django.utils import timezone

from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)

#: As many as a user may have.
WEBHOOKS = 10
#: What a retried job that fails again adds: an attempt and a notification, and one job for each webhook and event.
ADDED_BY_THE_END = {
    "notifications.Attempt": 1,
    "notifications.Notification": 1,
    "notifications.Job": WEBHOOKS * len(["job.failed", "notification.created"]),
}
#: Rows that are deleted within minutes, or are changed in place.
PASSING = {"notifications.Ring", "notifications.QueueClock", "notifications_operations.JobStatistics"}


def count_rows():
    models = [model for model in apps.get_models() if model._meta.app_label.startswith("notifications")]
    found = {model._meta.label: model.objects.count() for model in models if model._meta.managed}
    return {label: count for label, count in found.items() if label not in PASSING}


def added(before):
    return {label: count - before[label] for label, count in count_rows().items() if count != before[label]}


def test_a_retry_adds_none_and_its_end_one_for_each_webhook_and_event(client, user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    now = timezone.now()
    for number in range(WEBHOOKS):
        WebhookEndpoint.objects.create(
            url=f"https://hooks{number}.example/",
            events="job.failed notification.created",
            secret="whsec_secret",
            created_at=now,
            user_id=user.pk,
        )
    id = tasks.fail.using(owner=user).enqueue().id
    run_jobs(among=Q(pk=id))
    client.force_login(user)
    before = count_rows()
    assert client.post(f"/notifications/api/jobs/{id}/retry/").status_code == 202
    assert added(before) == {}
    run_jobs(among=Q(pk=id))
    assert Job.objects.get(pk=id).state == "failed" and added(before) == ADDED_BY_THE_END

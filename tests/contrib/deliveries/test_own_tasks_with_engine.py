"""Where an engine runs the project's jobs, those of the app's own senders take none of their slots."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.api import notify, requester
from notifications.contrib import webhooks
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.webhooks.models import JobCallback
from notifications.extension import hooks
from notifications.jobs import cancel
from notifications.models import Job
from tests.contrib.deliveries.conftest import choose
from tests.contrib.deliveries.test_broken_channels import odd  # noqa: F401 (a fixture)
from tests.jobs import tasks
from tests.support.duties import enqueue_deliveries

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("with_engine"),
    pytest.mark.with_all_apps("the own tasks of all apps"),
]

#: What jobs of senders have with an engine.
OF_SENDERS = {"sender", "email"}


def notify_of_all_channels(user):
    """At once and by digests, by a channel whose send() is async, and by e-mail."""
    choose(user, {("export", "odd"): "hourly", ("export", "email"): "hourly"})
    for category in ("", "export"):
        notify(user, "note", category=category)
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    enqueue_deliveries()


def end_with_callback(user):
    """A job ends whose request has sent a Callback-URL."""
    with requester(user):
        id = tasks.fail.enqueue().id
    JobCallback.objects.create(job=id, url="https://crm.example/done")
    cancel([id])


def test_each_own_task_is_a_sender(odd, user, settings):  # noqa: F811 (the fixture)
    """For the event that enqueues its job, whatever becomes of the job: it is retried, requeued and released so too."""
    odd(has_digests=True)
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "WEBHOOKS": True,
        "CALLBACK_ORIGINS": ["https://crm.example"],
        "HANDLERS": {"job.cancelled": ["tests.jobs.tasks.noop"]},
    }
    webhooks.create("https://crm.example/hook", owner=user)
    webhooks.create("https://crm.example/all")
    notify_of_all_channels(user)
    end_with_callback(user)
    found = {}
    for path, executor in Job.objects.values_list("task_path", "executor"):
        found.setdefault(path, set()).add(executor)
    of_project = found.pop("tests.jobs.tasks.noop") | found.pop("tests.jobs.tasks.fail")
    assert of_project.isdisjoint(OF_SENDERS)
    assert found.keys() == hooks.own_tasks.keys()
    assert {path: executors for path, executors in found.items() if not executors <= OF_SENDERS} == {}

"""What is sent or handled of a deleted user's notifications and jobs is deleted with them."""

import pytest
from django.apps import apps
from django.core import serializers
from django.core.management import call_command

from notifications import times
from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import JobCallback, WebhookAttempt, WebhookEndpoint
from notifications.models import Job, uuid7
from notifications.testing import run_jobs
from tests.contrib.webhooks.handlers import tasks as handler_tasks
from tests.contrib.webhooks.handlers.conftest import declare  # noqa: F401 (fixture)
from tests.data.rows import job
from tests.jobs import tasks
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

SECRET = "Biopsy"


def stored_rows():
    """Return all rows of the app as text."""
    models = [model for model in apps.get_models() if model.__module__.startswith("notifications.")]
    return serializers.serialize("json", [row for model in models for row in model.objects.all()])


def use(user, receiver):
    """Have webhooks of the user and of the site, and handlers, of a notification and a job; those of one failed."""
    webhooks.create(receiver.url("/hook"), owner=user, events=["notification.created", "job.succeeded"])
    notify(user, SECRET, body=SECRET)
    tasks.noop.using(owner=user, title=SECRET).enqueue()
    run_jobs()


@pytest.fixture
def handled(declare, receiver, user, other_user):  # noqa: F811
    declare({"notification.created": ["handle", "fail"], "job.succeeded": ["handle_too"]})
    webhooks.create(receiver.url("/hook"), owner=None, events=["notification.created"])
    use(user, receiver)
    return user


def test_ended_ones(handled):
    """The texts of the user are in no row any more."""
    assert Job.objects.filter(user=None, state="failed").exists()
    assert SECRET in stored_rows()
    handled.delete()
    assert SECRET not in stored_rows()
    assert not Job.objects.exists()


def test_queued_ones(handled, receiver):
    """They are deleted, so nothing is sent or handled."""
    notify(handled, SECRET)
    requests, events = len(receiver.requests), len(handler_tasks.events)
    assert Job.objects.filter(state="queued").count() == 4
    handled.delete()
    assert SECRET not in stored_rows()
    run_jobs()
    assert (len(receiver.requests), len(handler_tasks.events)) == (requests, events)


def test_those_of_others_stay(handled, receiver, other_user):
    use(other_user, receiver)
    before = Job.objects.count()
    handled.delete()
    left = Job.objects.filter(user=None)
    assert left.count() == Job.objects.count() - 1 == before // 2 - 1
    assert all(f'"user":{other_user.pk},' in row.args for row in left)


def test_running_ones(declare, user, start_worker, set_bounds):  # noqa: F811
    """A worker stops them within seconds."""
    set_bounds(polls=0.2)
    declare({"notification.created": ["hold"]})
    start_worker()
    notify(user, SECRET)
    wait_until(lambda: handler_tasks.events, what="the handler to run")
    user.delete()
    assert not Job.objects.exists()
    wait_until(lambda: "stopped" in handler_tasks.events, what="the handler to stop")


def test_callback_url(user):
    """The URL of a request of the user is deleted with the job that calls it."""
    row, telling = job(user), job(None)
    Job.objects.filter(pk=telling.pk).update(event_source=row.pk)
    JobCallback.objects.create(job=row.pk, url="https://example.com/")
    user.delete()
    assert not Job.objects.exists() and not JobCallback.objects.exists()


def test_many_of_one_user(make_user, set_bounds):
    """More than one transaction deletes, of many users, also by `prune`."""
    set_bounds(rows=3)
    for prune in (False, True):
        user = make_user(f"user-{prune}")
        rows = [job(user) for _ in range(5)]
        for row in rows:
            for _ in range(3):
                telling = job(None)
                Job.objects.filter(pk=telling.pk).update(event_source=row.pk)
        notify(user, "Hello")
        if prune:
            type(user).objects.filter(pk=user.pk)._raw_delete("default")
            call_command("notifications", "prune")
        else:
            user.delete()
        assert not Job.objects.exists()


def test_attempts_to_call_an_endpoint(user, other_user):
    """They are deleted with the endpoint of a deleted user, and those of others are not."""
    for owner in (user, other_user):
        endpoint = webhooks.create("https://hooks.example/jobs", owner=owner)
        WebhookAttempt.objects.create(
            endpoint=endpoint.id, job=uuid7(), started_at=times.now(), milliseconds=1
        )
    user.delete()
    assert [each.endpoint for each in WebhookAttempt.objects.all()] == [endpoint.id]
    assert WebhookEndpoint.objects.get().user_id == other_user.pk

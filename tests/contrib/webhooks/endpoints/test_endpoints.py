"""Endpoints are created and changed by functions, with clear errors."""

from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import django
import pytest
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.models import Job
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.nightly_on_postgres]

DUMMY = ("django.tasks" if django.VERSION >= (6, 0) else "django_tasks") + ".backends.dummy.DummyBackend"
URL = "https://hooks.example/jobs"


#: Those of an endpoint that was created without a list.
ALL_EVENTS = {
    *("job.succeeded", "job.failed", "job.cancelled", "job.waiting"),
    *("notification.created", "notification.answered"),
}


def test_create(user, other_user):
    first = webhooks.create(URL, owner=user, description="CRM")
    second = webhooks.create(URL, owner=user.pk, events=["job.failed", "job.succeeded", "job.failed"])
    site = webhooks.create(URL)
    assert [row.id for row in webhooks.endpoints_of(user)] == [first.id, second.id]
    assert webhooks.endpoints_of(None) == [site] and webhooks.endpoints_of(other_user) == []
    assert set(first.events) == ALL_EVENTS and second.events == ("job.succeeded", "job.failed")
    assert (first.owner, site.owner, first.description) == (user.pk, None, "CRM")
    assert first.secret.startswith("whsec_") and len({first.secret, second.secret, site.secret}) == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": ""}, "url is empty"),
        ({"url": 5}, "url must be a string"),
        ({"url": "ftp://hooks.example/"}, "url is refused: it does not begin with http"),
        ({"url": "http://hooks.example/"}, "url is refused: it does not begin with https://"),
        ({"url": "https://user:password@hooks.example/"}, "a user name or a password"),
        ({"url": "https://hooks.example:8443/"}, "its port is not in NOTIFICATIONS"),
        ({"url": "https://hooks.example/" + "x" * 1000}, "url has 1022 characters"),
        ({"url": "https://hooks.example/\n"}, "url is refused"),
        ({"events": []}, r"events is \[\]. It must have some of: job.succeeded"),
        ({"events": ["job.done"]}, "It must have some of"),
        ({"description": "x" * 201}, "description has 201 characters"),
        ({"owner": "nobody"}, "is not a primary key of a user"),
    ],
)
def test_bad_values(fields, words):
    with pytest.raises((ValueError, TypeError), match=words):
        webhooks.create(**{"url": URL, **fields})
    assert not WebhookEndpoint.objects.exists()


def test_limit(user):
    for _ in range(10):
        webhooks.create(URL, owner=user)
    with pytest.raises(ValueError, match="There are 10 webhooks of this owner already"):
        webhooks.create(URL, owner=user)
    webhooks.create(URL)


def test_project_whose_tasks_are_no_jobs(settings):
    settings.TASKS = {"default": {"BACKEND": DUMMY}}
    with pytest.raises(ImproperlyConfigured, match="Webhooks are jobs"):
        webhooks.create(URL)


def test_webhooks_that_are_off(settings, user):
    """None is added. Those that are there get nothing, and are not looked for."""
    webhooks.create(URL)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": False}
    with pytest.raises(ImproperlyConfigured, match="Webhooks are off"):
        webhooks.create(URL)
    with CaptureQueriesContext(connection) as queries:
        notify(user, "note")
    assert queries.captured_queries and not [q for q in queries.captured_queries if "webhook" in q["sql"]]
    assert not Job.objects.exists()


def test_rotation():
    endpoint = webhooks.create(URL)
    with pytest.raises(ValueError, match="overlap is 31 days"):
        webhooks.rotate_secret(endpoint.id, overlap=timedelta(days=31))
    secret = webhooks.rotate_secret(endpoint.id)
    [row] = WebhookEndpoint.objects.all()
    assert (row.secret, row.previous_secret) == (secret, endpoint.secret) and row.previous_until
    webhooks.rotate_secret(endpoint.id, overlap=timedelta(0))
    row.refresh_from_db()
    assert (row.previous_secret, row.previous_until) == ("", None)


def test_off_and_on(user):
    endpoint = webhooks.create(URL, owner=user)
    for _ in range(2):
        webhooks.turn_off(endpoint.id)
    [row] = webhooks.endpoints_of(user)
    assert row.off_at and row.off_reason == "by-hand"
    for _ in range(2):
        webhooks.turn_on(endpoint.id)
    assert webhooks.endpoints_of(user) == [endpoint]
    webhooks.delete(endpoint.id)
    webhooks.delete(endpoint.id)
    assert not webhooks.endpoints_of(user)


@pytest.mark.parametrize("name", ["turn_on", "turn_off", "rotate_secret", "send_test"])
def test_unknown_endpoint(name):
    with pytest.raises(ObjectDoesNotExist):
        getattr(webhooks, name)(uuid4())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_of_the_site", [False, True])
def test_limit_of_many_at_once(user, is_of_the_site):
    """Ten of 20 requests of an owner without any are refused, although there is no row to lock."""
    refused, barrier = [], Barrier(20)

    def create():
        barrier.wait(30)
        try:
            webhooks.create(URL, owner=None if is_of_the_site else user)
        except webhooks.TooManyWebhooks:
            refused.append(True)

    run_in_threads(*[create] * 20)
    assert (WebhookEndpoint.objects.count(), len(refused)) == (10, 10)

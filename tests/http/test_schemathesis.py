"""Requests that schemathesis generates from the OpenAPI document: single ones, and sequences along its links.

All of its checks are on: no 500, answers and their headers as described, good data taken and bad data refused, no other
method, and no answer without a session. The server is in this process and a WSGI one, so that nothing waits.
"""

import os
from datetime import timedelta
from uuid import UUID

import pytest
import schemathesis
from django.contrib.sessions.models import Session
from django.core.wsgi import get_wsgi_application
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.jobs import cancel
from notifications.models import Attempt, Job, Notification, Stream, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = pytest.mark.nightly

ADDRESS = "/notifications/api/openapi.json"
ACCEPTED = ["2xx", "3xx", 404, 409, 501]
CONFIG = {
    "generation": {"deterministic": True, "with-security-parameters": False},
    "checks": {
        # A WSGI server has no events, and says so.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 501]},
        # 409: a job in the wrong state.
        "positive_data_acceptance": {"expected-statuses": ACCEPTED},
    },
    "operations": [
        {  # 503: no worker is alive
            "include-path-regex": "/health/ready/$",
            "checks": {
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]},
                "positive_data_acceptance": {"expected-statuses": ["2xx", 503]},
            },
        },
        {  # 422: a URL that may not be called, an event twice
            "include-path-regex": "/webhooks/.*/$",
            "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 422, 429]}},
        },
        {  # 404: an event that the webhook was not sent
            "include-path-regex": "/resend/$",
            "checks": {"ensure_resource_availability": {"enabled": False}},
        },
        {  # 422: a position that has not been reached, a time zone that does not exist, a URL that may not be called
            "include-path-regex": "(/notifications/((un)?(read|archive)|seen)|/preferences|/webhooks)/$",
            "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 422]}},
        },
    ],
}
API = schemathesis.openapi.from_wsgi(
    ADDRESS, get_wsgi_application(), config=schemathesis.Config.from_dict(CONFIG)
)
#: Requests that are generated for each operation, of each kind.
EXAMPLES = 100 if os.environ.get("CONFORMANCE_SLOW") else 8
SETTINGS = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
SESSION, TOKEN = "s" * 32, "t" * 32
IDS = []


@API.auth()
class Ada:
    """Adds session and CSRF token. Some requests are generated before the user exists."""

    def get(self, case, context):
        return SESSION

    def set(self, case, session, context):
        case.cookies = {**(case.cookies or {}), "sessionid": session, "csrftoken": TOKEN}
        case.headers["X-CSRFToken"] = TOKEN


@API.hook
def map_path_parameters(context, path_parameters):
    """Replace most generated ids by those of existing jobs and webhooks of both users."""
    try:
        number = UUID(path_parameters["id"]).int
    except (KeyError, TypeError, ValueError, AttributeError):
        return path_parameters
    choice = number % (len(IDS) + 2)
    return {**path_parameters, "id": IDS[choice]} if choice < len(IDS) else path_parameters


@pytest.fixture
def users(transactional_db, user, other_user, settings):
    """Return the user who sends the requests, and another one."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    create_session(user)
    return [user, other_user]


@pytest.fixture
def example_rows(users):
    """Create rows for both users. Check after the test that those of the other user are unchanged."""
    create_example_rows(users)
    before = read_rows(users[1])
    yield
    assert read_rows(users[1]) == before


def create_example_rows(users):
    """Replace all rows by jobs in every state and notifications."""
    for model in (Attempt, Job, Notification, Stream, WebhookAttempt, WebhookEndpoint):
        model.objects.all().delete()
    for user in users:
        tasks.add.using(owner=user, url="/somewhere/").enqueue(1, 2)
        tasks.fail.using(owner=user).enqueue()
        run_jobs()
        tasks.noop.using(owner=user, title="It runs").enqueue()
        claim_rows(uuid7(), 1)
        for _ in range(2):
            cancelled = tasks.noop.using(owner=user, run_after=timezone.now() + timedelta(hours=1)).enqueue()
        cancel([cancelled.id])
        notify(user, "Hello", body="There", category="talk", data={"a": 1})
    IDS[:] = [str(id) for id in Job.objects.order_by("id").values_list("id", flat=True)]
    for user in users:
        webhook = webhooks.create("https://hooks.example/", owner=user)
        IDS.append(str(webhook.id))
        WebhookAttempt.objects.create(
            endpoint=webhook.id, job=uuid7(), event="job.failed", started_at=timezone.now(), milliseconds=5
        )


def create_session(user):
    """Create a session with the key of the generated requests."""
    client = Client()
    client.force_login(user)
    sessions = Session.objects.filter(session_key=client.cookies["sessionid"].value)
    sessions.update(session_key=SESSION)


def read_rows(user):
    return [
        list(model.objects.filter(user=user).order_by("id").values())
        for model in (Job, Notification, WebhookEndpoint)
    ]


@API.parametrize()
@SETTINGS
def test_each_operation(case, example_rows):
    case.call_and_validate()


def test_linked_operations(users):
    """Requests follow the links of the document: list, get, cancel, retry, mark and sync."""

    class LinkedOperations(API.as_state_machine()):
        def setup(self):
            super().setup()
            create_example_rows(users)
            self.before = read_rows(users[1])

        def teardown(self):
            assert read_rows(users[1]) == self.before
            super().teardown()

    LinkedOperations.run(settings=settings(SETTINGS, max_examples=30, stateful_step_count=8))

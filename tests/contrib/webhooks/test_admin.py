"""Staff add, edit, test and turn off webhooks, and read their log; secrets only with their permission."""

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
from notifications.models import Job
from notifications.outbound.circuits import circuits
from notifications.testing import run_jobs
from tests.contrib.webhooks.endpoints.receiver import Receiver, signers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

LIST = "/admin/notifications_webhooks/webhookendpoint/"
URL = "https://hooks.example/private-path"
ALL = ["view_webhookendpoint", "add_webhookendpoint", "change_webhookendpoint", "delete_webhookendpoint"]


@pytest.fixture(autouse=True)
def webhooks_on(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}


@pytest.fixture
def act(client):
    """act(action, *ids) posts an action of the list, and returns the page that follows."""

    def act(action, *ids):
        return client.post(LIST, {"action": action, "_selected_action": ids}, follow=True)

    return act


def page_of(endpoint):
    return f"{LIST}{endpoint.id}/change/"


def test_add(client, sign_in_staff, user):
    sign_in_staff(*ALL)
    page = client.get(f"{LIST}add/").text
    assert page.count("checked") == 6 and "secret" not in page.lower()
    form = {"url": URL, "description": "CRM", "user": user.pk, "events": ["job.failed", "job.succeeded"]}
    assert client.post(f"{LIST}add/", form).status_code == 302
    [endpoint] = webhooks.endpoints_of(user)
    assert (endpoint.url, endpoint.description) == (URL, "CRM")
    assert endpoint.events == ("job.succeeded", "job.failed") and endpoint.secret.startswith("whsec_")
    assert client.post(f"{LIST}add/", {**form, "user": ""}).status_code == 302
    [site] = webhooks.endpoints_of(None)
    assert site.secret != endpoint.secret
    text = client.get(LIST).text
    assert "hooks.example" in text and "private-path" not in text and endpoint.secret not in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": "https://127.0.0.1/"}, "url is refused: it is not on the public internet"),
        ({"url": "http://hooks.example/"}, "does not begin with https://"),
        ({"url": ""}, "This field is required"),
        ({"events": []}, "This field is required"),
        ({"events": ["job.done"]}, "Select a valid choice"),
        ({"user": "99"}, "Select a valid choice"),
    ],
)
def test_bad_values(client, sign_in_staff, values, words):
    sign_in_staff(*ALL)
    response = client.post(f"{LIST}add/", {"url": URL, "events": ["job.failed"], **values})
    assert response.status_code == 200 and words in response.text
    assert not WebhookEndpoint.objects.exists()


def test_limit(client, sign_in_staff, user):
    sign_in_staff(*ALL)
    endpoints = [webhooks.create(URL, owner=user) for _ in range(10)]
    form = {"url": URL, "user": user.pk, "events": ["job.failed"]}
    assert "There are 10 webhooks of this owner" in client.post(f"{LIST}add/", form).text
    assert client.post(page_of(endpoints[0]), form).status_code == 302


def test_edit(client, sign_in_staff, user):
    """What has happened since the page was loaded stays."""
    sign_in_staff(*ALL)
    endpoint = webhooks.create(URL, owner=user)
    secret = webhooks.rotate_secret(endpoint.id)
    webhooks.turn_off(endpoint.id)
    form = {"url": "https://other.example/", "user": user.pk, "events": ["job.failed"]}
    assert client.post(page_of(endpoint), form).status_code == 302
    [row] = WebhookEndpoint.objects.all()
    assert (row.url, row.events, row.secret) == ("https://other.example/", "job.failed", secret)
    assert row.previous_secret == endpoint.secret and row.off_at


def test_secret_needs_its_permission(client, sign_in_staff):
    endpoint = webhooks.create(URL)
    sign_in_staff(*ALL)
    assert endpoint.secret not in client.get(page_of(endpoint)).text
    client.logout()


def test_secret_with_its_permission(client, sign_in_staff):
    endpoint = webhooks.create(URL)
    sign_in_staff("view_webhookendpoint", "view_webhook_secret")
    response = client.get(page_of(endpoint))
    assert endpoint.secret in response.text and "no-store" in response["Cache-Control"]
    assert endpoint.secret not in client.get(LIST).text


def test_actions(client, sign_in_staff, act, user):
    sign_in_staff(*ALL)
    endpoint = webhooks.create(URL, owner=user)
    assert "1 webhook was turned off" in act("turn_off_webhooks", endpoint.id).text
    assert "0 webhooks were turned off" in act("turn_off_webhooks", endpoint.id).text
    assert "Off since" in client.get(LIST).text
    assert "1 webhook was turned on" in act("turn_on_webhooks", endpoint.id).text
    assert webhooks.endpoints_of(user) == [endpoint]
    assert "1 secret was replaced" in act("rotate_webhooks", endpoint.id).text
    assert webhooks.endpoints_of(user)[0].secret != endpoint.secret
    texts = [entry.change_message for entry in LogEntry.objects.order_by("id")]
    assert texts == ["Turned off.", "Turned on.", "Replaced the secret."]
    client.post(f"{LIST}{endpoint.id}/delete/", {"post": "yes"})
    assert not WebhookEndpoint.objects.exists()


def test_log_of_attempts(client, sign_in_staff, act, user, settings):
    """A test event, and a failed event that is sent again, at a real receiver."""
    sign_in_staff(*ALL, "view_job")
    circuits.reset()
    receiver = Receiver()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_ALLOW": [receiver.address]}
    try:
        endpoint = webhooks.create(receiver.url("/hook"), owner=user)
        assert "Nothing was sent to it yet." in client.get(page_of(endpoint)).text
        act("test_webhooks", endpoint.id)
        run_jobs()
        receiver.answers = [410]
        notify(user, "Hello")
        run_jobs()
        text = client.get(page_of(endpoint)).text
        assert "webhook.test" in text and ">204<" in text and ">410<" in text
        assert f"/admin/notifications/job/{Job.objects.latest('id').pk}/change/" in text
        assert 'value="Turn on"' in text and 'value="Turn off"' not in text
        act("turn_on_webhooks", endpoint.id)
        assert "1 event is sent again" in act("resend_webhooks", endpoint.id).text
        run_jobs()
        assert [event["type"] for event in receiver.events] == ["webhook.test", *["notification.created"] * 2]
        assert receiver.ids[1] == receiver.ids[2]
        assert all(signers(request, endpoint.secret) for request in receiver.requests)
    finally:
        receiver.close()


def test_links_to_jobs_need_the_permission(client, sign_in_staff):
    sign_in_staff("view_webhookendpoint")
    endpoint = webhooks.create(URL)
    WebhookAttempt.objects.create(
        endpoint=endpoint.id, job=endpoint.id, event="job.failed", started_at=timezone.now(), milliseconds=5
    )
    text = client.get(page_of(endpoint)).text
    assert "job.failed" in text and "/admin/notifications/job/" not in text
    assert 'name="action"' not in text


def test_webhooks_that_are_off(client, sign_in_staff, settings):
    """The list and the pages say so, and none is added."""
    sign_in_staff(*ALL)
    endpoint = webhooks.create(URL)
    pages = (LIST, page_of(endpoint))
    assert not [page for page in pages if "Webhooks are off" in client.get(page).text]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": False}
    assert [client.get(page).text.count("Webhooks are off") for page in pages] == [1, 1]
    assert client.get(f"{LIST}add/").status_code == 403

"""The page of devices, its service worker, and what both ask and tell the server."""

import json
from uuid import uuid4

import pytest
from django.test import Client

from notifications.contrib.deliveries import devices
from notifications.contrib.deliveries.models import PushSubscription
from notifications.models import Notification
from tests.data.rows import unnumbered
from tests.support.push_service import browser_keys, public_key_of, vapid_key

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

ENDPOINT = "https://push.example/send/secret"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@pytest.fixture
def private_key():
    return vapid_key()


@pytest.fixture(autouse=True)
def configured(settings, private_key):
    """The site has a key."""
    keys = {"private_key": private_key, "subject": "mailto:admin@site.example"}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEB_PUSH": keys}


def body(endpoint=ENDPOINT, **fields):
    return {"endpoint": endpoint, "expirationTime": None, "keys": browser_keys()[1], **fields}


def post(client, document, **headers):
    url = "/notifications/devices/subscribe/"
    return client.post(url, document, content_type="application/json", headers=headers)


@pytest.mark.database_law
def test_subscribing(user_client, user, private_key):
    """Twice is the same device. It is named after the browser, and its endpoint is shown nowhere."""
    ids = {post(user_client, body(), user_agent=FIREFOX).json()["id"] for _ in range(2)}
    device = PushSubscription.objects.get()
    assert ids == {str(device.id)} and (device.user_id, device.name) == (user.pk, "Firefox on Linux")
    page = user_client.get("/notifications/devices/").content.decode()
    assert "Firefox on Linux" in page and "push.example" not in page
    state = user_client.get("/notifications/devices/state/")
    assert (
        state.json()["public_key"] == public_key_of(private_key)
        and "push.example" not in state.content.decode()
    )


def test_requests_of_the_worker(user):
    """It has no page from which it could read the token, and checks of CSRF are on."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    [id] = unnumbered(user.pk, 1)
    state = client.get("/notifications/devices/state/").json()
    url = state["links"]["subscribe"]
    assert client.post(url, body(), content_type="application/json").status_code == 403
    headers = {state["csrf_header"]: state["csrf_token"]}
    answer = client.post(url, body(), content_type="application/json", headers=headers)
    assert answer.status_code == 200 and PushSubscription.objects.count() == 1
    marked = {"ids": [str(id)], "up_to": state["position"]}
    answer = client.post(state["links"]["read"], marked, content_type="application/json", headers=headers)
    assert answer.status_code == 200 and Notification.objects.get().read_at


def test_worker_of_another_user(user_client, client_of, other_user):
    """The worker is that of the user who has turned push on: requests with its mark are refused for another one."""
    script = user_client.get("/notifications/devices/state/").json()["links"]["worker"]
    assert b"notificationclick" in user_client.get(script).content
    mark = script.partition("?")[2]
    assert user_client.get(f"/notifications/devices/state/?{mark}").json()["links"]["worker"] == script
    assert client_of(other_user).get(f"/notifications/devices/state/?{mark}").status_code == 401


@pytest.mark.parametrize(
    ("document", "status", "field"),
    [
        ({}, 422, "endpoint"),
        (body("http://push.example/1"), 422, "endpoint"),
        (body(["https://push.example"]), 422, "endpoint"),
        (body(keys=None), 422, "p256dh"),
        (body(keys=[]), 422, "p256dh"),
        (body(keys={"p256dh": browser_keys()[1]["p256dh"]}), 422, "auth"),
        ([], 422, None),
        (body(endpoint="https://push.example/" + "x" * 2_000_000), 413, None),
    ],
)
def test_wrong_subscriptions(user_client, document, status, field):
    answer = post(user_client, json.dumps(document))
    assert answer.status_code == status and answer["Content-Type"] == "application/problem+json"
    assert field is None or field in json.dumps(answer.json())
    assert not PushSubscription.objects.exists()


@pytest.mark.parametrize("replaces", [{"a": 1}, "\ud800", "\0", "\N{GRINNING FACE}"])
def test_strange_values_that_do_no_harm(user_client, replaces):
    answer = post(user_client, body(replaces=replaces), user_agent="\N{GRINNING FACE}" * 5000)
    assert answer.status_code == 200 and PushSubscription.objects.get().name == "Unknown browser"


def test_too_many_devices(user_client):
    for number in range(20):
        assert post(user_client, body(f"{ENDPOINT}/{number}")).status_code == 200
    answer = post(user_client, body())
    assert answer.status_code == 409 and "Remove one and try again." in answer.json()["detail"]


@pytest.mark.database_law
def test_removing(user_client, client_of, other_user):
    """By a form, so that it works without JavaScript. Devices of others are not touched."""
    post(user_client, body())
    url = f"/notifications/devices/{PushSubscription.objects.get().id}/remove/"
    assert url in user_client.get("/notifications/devices/").content.decode()
    assert client_of(other_user).post(url).status_code == 303 and PushSubscription.objects.exists()
    assert user_client.get(url).status_code == 405 and PushSubscription.objects.exists()
    for _ in range(2):
        answer = user_client.post(url)
        assert (answer.status_code, answer["Location"]) == (303, "/notifications/devices/")
    assert not PushSubscription.objects.exists()
    assert "You have no devices yet." in user_client.get("/notifications/devices/").content.decode()


def test_removing_needs_a_token(user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.post(f"/notifications/devices/{uuid4()}/remove/").status_code == 403


def test_signed_out(client):
    assert client.get("/notifications/devices/").status_code == 302
    assert client.get("/notifications/devices/state/").status_code == 401
    assert post(client, body()).status_code == 401


def test_service_worker(client):
    """It needs no user. A browser asks for it anew each time, and keeps it unless it has changed."""
    answer = client.get("/notifications/devices/worker.js")
    assert answer.status_code == 200 and answer["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer["Cache-Control"] == "no-cache" and "Set-Cookie" not in answer
    assert "Service-Worker-Allowed" not in answer  # pages of the project may have a worker of their own
    assert b"notificationclick" in answer.content and b"export" not in answer.content
    again = client.get("/notifications/devices/worker.js", headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304
    assert client.post("/notifications/devices/worker.js").status_code == 405


def test_link_in_the_preferences(user_client, settings):
    link = 'href="/notifications/devices/"'
    assert link in user_client.get("/notifications/preferences/").content.decode()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEB_PUSH": {}}
    assert link not in user_client.get("/notifications/preferences/").content.decode()


def test_site_without_push(user_client, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEB_PUSH": {}}
    assert user_client.get("/notifications/devices/").status_code == 404
    assert user_client.get("/notifications/devices/state/").status_code == 404
    assert post(user_client, body()).status_code == 404


@pytest.mark.parametrize("path", ["/notifications/", "/notifications/preferences/"])
def test_links_to_devices(user_client, settings, path):
    """The inbox and the preferences link to them, where push is configured."""
    link = '<a href="/notifications/devices/">'
    assert link in user_client.get(path).content.decode()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEB_PUSH": {}}
    assert link not in user_client.get(path).content.decode()


@pytest.mark.database_law
def test_key_of_the_site(user_client, user, private_key):
    """Its hash is stored. A device with another one is shown as refused, until its browser subscribes anew."""
    old = public_key_of(vapid_key())
    assert post(user_client, body(key=old)).status_code == 200
    page = user_client.get("/notifications/devices/").content.decode()
    assert "push.example refuses messages of this site" in page
    key = public_key_of(private_key)
    made = body("https://push.example/send/2", key=key, replaces=ENDPOINT, confirms=True)
    assert post(user_client, made).json()["id"]
    device = PushSubscription.objects.get()
    assert (device.endpoint, device.key_hash) == (made["endpoint"], devices.hash_key(key))
    assert "refuses messages" not in user_client.get("/notifications/devices/").content.decode()
    # Replacing one that was removed meanwhile is no new device.
    assert (
        post(user_client, {**made, "endpoint": ENDPOINT, "replaces": "https://push.example/x"}).json() == {}
    )


@pytest.mark.parametrize("key", [None, 7, "\ud800", "x" * 5000])
def test_key_that_no_browser_sends(user_client, user, key):
    assert post(user_client, body(key=key)).status_code == 200
    assert len(PushSubscription.objects.get().key_hash) in (0, 64)

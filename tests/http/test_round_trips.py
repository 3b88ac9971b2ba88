"""What a GET of the API answers changes nothing when it is sent back."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib import webhooks
from notifications.contrib.deliveries.models import Preference
from notifications.contrib.webhooks.models import WebhookEndpoint

pytestmark = pytest.mark.django_db(transaction=True)

API = "/notifications/api/"
PREFERENCES = f"{API}preferences/"
#: Paths whose GET answers what their POST, PUT or PATCH takes.
ROUND_TRIPS = {"/preferences/", "/webhooks/{id}/"}
#: A POST of these makes or ends something, by a body of another shape.
OTHERS = {"/webhooks/", "/jobs/{id}/answers/{wait}/"}


@pytest.fixture(autouse=True)
def categories(settings):
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "WEBHOOKS": True,
        "DELIVERY": {"*": [{"email": 600}]},
        "CATEGORIES": {
            "export": {"default": {"email": "daily"}},
            "security": {"required": True},
            "silent": {"default": {"bell": "off"}},
        },
    }


def test_every_resource_is_tested(client):
    paths = client.get(f"{API}openapi.json").json()["paths"]
    both = {
        path
        for path, methods in paths.items()
        if "get" in methods and methods.keys() & {"post", "put", "patch"}
    }
    assert both == ROUND_TRIPS | OTHERS


def switch_off(client, category, days):
    """Switch a category off by the pages of preferences: for so many days, or for good without."""
    if days:
        client.post("/notifications/preferences/", {"category": category, "off": f"{days}.0"})
    else:
        client.post("/notifications/mute/", {"category": category})


def send_back(client, url, rows, answer=None):
    """Send the answer of a GET back, and assert that the next one is equal, as are the rows."""
    answer = answer or client.get(url).json()
    before = list(rows.order_by("pk").values())
    response = client.post(url, answer, content_type="application/json")
    assert response.status_code == 200, response.text
    assert response.json() == client.get(url).json() == answer
    assert list(rows.order_by("pk").values()) == before


@pytest.mark.parametrize("days", [None, 1, 30])
def test_preferences(user_client, days):
    """What is off for a time or for good stays so, and what was chosen before is kept."""
    chosen = {"export": {"email": "weekly"}, "old": {"email": "hourly"}, "": {"email": "off"}}
    changes = {
        "categories": chosen,
        "time_zone": "Europe/Paris",
        "digest_hour": 7,
        "quiet_hours": [["22:00", "07:00"], *[None] * 6],
        "paused_until": (timezone.now() + timedelta(hours=1)).isoformat(),
    }
    assert user_client.post(PREFERENCES, changes, content_type="application/json").status_code == 200
    for category in ("export", "silent"):
        switch_off(user_client, category, days)
    send_back(user_client, PREFERENCES, Preference.objects.all())
    some = {"categories": {"export": {"bell": "on"}}}
    assert user_client.post(PREFERENCES, some, content_type="application/json").status_code == 200
    send_back(user_client, PREFERENCES, Preference.objects.all())
    user_client.post("/notifications/unmute/", {"category": "export"})
    channels = user_client.get(PREFERENCES).json()["categories"][0]["channels"]
    assert channels == {"bell": "on", "email": "weekly"}


def test_preferences_that_are_sent_back_later(user_client):
    """What was off for a time that is over stays on; by an object of choices too, which has no times."""
    switch_off(user_client, "export", 1)
    answer = user_client.get(PREFERENCES).json()
    choices = {"categories": {"export": answer["categories"][0]["channels"]}}
    assert choices == {"categories": {"export": {"bell": "off", "email": "off"}}}
    changed = user_client.post(PREFERENCES, choices, content_type="application/json").json()
    assert changed == answer
    Preference.objects.update(off_until=timezone.now() - timedelta(seconds=1))
    answer["categories"][0]["off_until"] = "2026-01-01T00:00:00Z"
    changed = user_client.post(PREFERENCES, answer, content_type="application/json").json()
    assert changed["categories"][0]["channels"] == {"bell": "on", "email": "daily"}


def test_preferences_by_the_shape_of_the_answer(user_client):
    """It switches a category off for a time, and for good, and on again."""
    until = f"{timezone.now() + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    for off_until, choice in ((until, "off"), (None, "off"), (None, "on")):
        row = {"category": "export", "channels": {"bell": choice, "email": choice}, "off_until": off_until}
        response = user_client.post(PREFERENCES, {"categories": [row]}, content_type="application/json")
        found = response.json()["categories"][0]
        assert {key: found[key] for key in row} == row


@pytest.mark.parametrize(
    "row",
    [
        1,
        {},
        {"category": "export"},
        {"category": 7, "channels": {}},
        {"category": "export", "channels": "off"},
        {"category": "export", "channels": {"fax": "on"}},
        {"category": "security", "channels": {"email": "off"}, "off_until": "2027-01-01T00:00:00Z"},
        {"category": "export", "channels": {"email": "off"}, "off_until": "tomorrow"},
        {"category": "export", "channels": {"email": "off"}, "off_until": "9999-01-01T00:00:00Z"},
    ],
)
def test_a_category_that_cannot_be_sent_back(user_client, row):
    body = {"categories": [{"category": "other", "channels": {"email": "off"}}, row]}
    response = user_client.post(PREFERENCES, body, content_type="application/json")
    assert response.status_code == 422 and response.json()["detail"]
    assert not Preference.objects.exists()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"failing_since": timezone.now()},
        {"off_at": timezone.now(), "off_reason": "failing", "failing_since": timezone.now()},
        {"off_at": timezone.now(), "off_reason": "by-hand"},
    ],
    ids=["on", "failing", "off", "off-by-hand"],
)
def test_webhooks(user, user_client, state):
    created = webhooks.create("https://hooks.example/", owner=user, events=["job.failed"], description="Ours")
    WebhookEndpoint.objects.update(**state)
    send_back(user_client, f"{API}webhooks/{created.id}/", WebhookEndpoint.objects.all())

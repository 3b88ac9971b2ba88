"""Which deliveries are inserted with a notification."""

from datetime import timedelta

import pytest
from django.core.checks import WARNING, run_checks
from django.db import transaction
from django.test import Client
from django.utils import translation

from notifications.api import anotify, notify
from notifications.contrib.deliveries.models import Delivery
from notifications.models import Notification
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.realtime.conftest import in_thread

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def mute(user, category):
    """Mute a category, as the button in the inbox does."""
    client = Client()
    client.force_login(user)
    assert client.post("/notifications/mute/", {"category": category}).status_code == 303


def delays(id):
    """Return the seconds from the notification to each of its deliveries."""
    created_at = Notification.objects.get(id=id).created_at
    rows = Delivery.objects.filter(notification=id).order_by("due_at")
    return [(row.due_at - created_at).total_seconds() for row in rows]


def test_steps_of_the_category(user, configure):
    configure(
        [{"email": 600}],
        DELIVERY={"export": [{"email": 0}], "quiet": [], "*": [{"email": timedelta(hours=1)}]},
    )
    ids = [notify(user, "note", category=category)[0] for category in ("export", "quiet", "other", "")]
    assert list(map(delays, ids)) == [[0], [], [3600], [3600]]


def test_no_setting(user):
    notify(user, "note", category="export")
    assert not Delivery.objects.exists()


async def test_steps_of_one_call(user, by_email):
    """They replace those of the setting, and work without it."""
    for steps, expected in (([], []), ([{"email": 5}], [5])):
        (id,) = await anotify(user, "note", deliver=steps)
        assert await in_thread(delays, id) == expected


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("email", "is not a list"),
        ([{"email": 1}] * 6, "at most 5 steps"),
        ([{"email": 5}, {"email": 9}], "has a channel twice"),
        (["email"], "is not a dict"),
        ([{"email": 1, "push": 2}], "is not a dict"),
        ([{"fax": 0}], "There is no channel 'fax'. Channels: email."),
        ([{"email": -1}], "from 0 to 30 days"),
        ([{"email": True}], "from 0 to 30 days"),
        ([{"email": float("nan")}], "from 0 to 30 days"),
        ([{"email": timedelta(days=31)}], "from 0 to 30 days"),
    ],
)
def test_wrong_steps(user, configure, caplog, steps, problem):
    """A call raises; in the setting they are a warning, and disable only themselves."""
    with pytest.raises(ValueError, match=problem):
        notify(user, "note", deliver=steps)
    configure([], DELIVERY={"wrong": steps, "right": [{"email": 0}]})
    (found,) = [message for message in run_checks() if message.id == "notifications.W029"]
    assert "NOTIFICATIONS['DELIVERY']['wrong']" in found.msg
    assert delays(notify(user, "note", category="wrong")[0]) == []
    assert delays(notify(user, "note", category="right")[0]) == [0]
    assert "Notifications are not delivered" in caplog.text


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ("Exports", "is not a dict with the keys"),
        ({"name": 7}, "name and description are texts."),
        ({"required": "yes"}, "required is 'yes'."),
        ({"default": "off"}, "default is 'off'."),
        ({"default": {"fax": "off"}}, "There is no channel 'fax'. Channels: bell, email"),
        ({"default": {"bell": "daily"}}, "The default of bell is 'daily'. It must be one of on, off."),
        ({"required": True, "default": {"email": "off"}}, "A required category has no default"),
    ],
)
def test_wrong_categories(user, configure, caplog, declared, problem):
    """They are a warning, and have no effect."""
    configure([{"email": 5}], CATEGORIES={"export": declared})
    (found,) = [message for message in run_checks() if message.id == "notifications.W031"]
    assert "NOTIFICATIONS['CATEGORIES']['export']" in found.msg and problem in found.msg
    (id,) = notify(user, "note", category="export")
    assert delays(id) == [5] and Notification.objects.get().read_at is None
    assert problem in caplog.text


@pytest.mark.parametrize("site_url", ["", "https://site.example"])
def test_check_of_the_address_of_the_site(configure, site_url):
    configure([{"email": 600}], SITE_URL=site_url)
    found = [message.id for message in run_checks() if message.id == "notifications.W030"]
    assert found == ([] if site_url else ["notifications.W030"])


def test_check_of_an_empty_setting(configure, settings):
    """A hint: calls may have steps of their own."""
    configure([{"email": 600}])
    assert "notifications.I006" not in [message.id for message in run_checks()]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "DELIVERY": {}}
    (found,) = [message for message in run_checks() if message.id == "notifications.I006"]
    assert "NOTIFICATIONS['DELIVERY'] is empty" in found.msg and not found.is_serious(WARNING)


def test_rollback(user, by_email):
    """A delivery exists if its notification does."""
    with pytest.raises(RuntimeError), transaction.atomic():
        notify(user, "note")
        assert Delivery.objects.count() == 1
        raise RuntimeError
    assert not Delivery.objects.exists()
    with transaction.atomic():
        notify(user, "note")
    assert Delivery.objects.get().notification == Notification.objects.get().id


def test_ends_of_jobs(user, by_email):
    """The notification of the end of a job goes by e-mail too, in the language of the job."""
    with translation.override("de"):
        tasks.noop.using(owner=user).enqueue()
    run_jobs()
    delivery = Delivery.objects.get()
    assert delivery.notification == Notification.objects.get().id
    assert delivery.language == "de"


def test_muted_category(user, by_email):
    mute(user, "export")
    notify(user, "note", category="export")
    assert Notification.objects.get().read_at
    assert not Delivery.objects.exists()


def test_many_recipients(make_user, by_email):
    users = [make_user(f"user{number}") for number in range(250)]
    ids = notify(users, "note")
    rows = Delivery.objects.values_list("notification", "user")
    assert set(rows) == {(id, user.pk) for id, user in zip(ids, users, strict=True)}

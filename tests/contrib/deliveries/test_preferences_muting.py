"""How users want to be told: muted categories are recorded as read, required ones cannot be switched off."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import preferences
from notifications.contrib.deliveries.models import Delivery, Preference
from notifications.extension import hooks
from notifications.models import Notification, Stream, uuid7
from notifications.streams import build_notification, marking
from tests.data.rows import finish_job, job
from tests.support.checks import doctor

pytestmark = pytest.mark.django_db(transaction=True)


def unread_and_unseen(user):
    position = Stream.objects.get(user=user)
    return position.unread, position.unseen


@pytest.mark.parametrize("in_transaction", [False, True])
def test_muted_category_is_recorded_as_read(user, other_user, in_transaction):
    """Of the users who have muted it, in a transaction of the caller too."""
    preferences.mute(user.pk, "reports")
    for category in ("reports", "other", ""):
        if in_transaction:
            with transaction.atomic():
                notify([user, other_user], category or "none", category=category)
        else:
            notify([user, other_user], category or "none", category=category)
    assert unread_and_unseen(user) == (2, 2)
    assert unread_and_unseen(other_user) == (3, 3)
    rows = Notification.objects.filter(user=user).exclude(read_at=None)
    assert list(rows.values_list("title", flat=True)) == ["reports"]
    assert doctor("unread")[0]["state"] == "ok"
    marking.mark(user.pk, "unread", 99)
    assert unread_and_unseen(user) == (3, 3)


def test_muted_notification_of_a_job(user):
    preferences.mute(user.pk, "job")
    finish_job(job(user), uuid7())
    assert Notification.objects.get().read_at is not None
    assert unread_and_unseen(user) == (0, 0)


def test_muted_notification_replaces_an_unread_one(user):
    """It is newer, so what the older one says is not true any more."""
    notify(user, "old", category="reports", key="k")
    preferences.mute(user.pk, "reports")
    notify(user, "new", category="reports", key="k")
    assert unread_and_unseen(user) == (0, 0)
    assert Notification.objects.get(title="old").archived_at is not None
    assert doctor("unread")[0]["state"] == "ok"


def test_unmuted_category(user):
    preferences.mute(user.pk, "reports")
    preferences.mute(user.pk, "reports")
    muted = Preference.objects.filter(user=user, category="reports", choice="off")
    assert set(muted.values_list("channel", flat=True)) == {"bell", *hooks.channels}
    preferences.unmute(user.pk, "reports")
    notify(user, "note", category="reports")
    assert unread_and_unseen(user) == (1, 1)


def test_number_of_muted_categories_is_limited(user):
    numbers = range(preferences.MAX_CATEGORIES - 1)
    preferences.choose(user.pk, {(f"c{number}", "email"): "off" for number in numbers})
    preferences.mute(user.pk, "a")
    with pytest.raises(preferences.TooManyPreferences):
        preferences.mute(user.pk, "b")


def test_one_query_for_many_users_and_none_without_a_category(make_user, django_assert_num_queries):
    users = [make_user(f"user{n}").pk for n in range(50)]
    with django_assert_num_queries(1):
        preferences.mark_muted([build_notification(user, "note", category="reports") for user in users])
    with django_assert_num_queries(0):
        preferences.mark_muted([build_notification(user, "note") for user in users])


def test_a_category_that_is_off_for_a_time(user, configure):
    """Afterwards what was chosen before is in force, also where the default is another one."""
    configure([{"email": 0}], CATEGORIES={"export": {"default": {"bell": "off"}}})
    preferences.choose(user.pk, {("export", "bell"): "on", ("export", "email"): "daily"})
    preferences.mute(user.pk, "export", until=timezone.now() + timedelta(days=7))
    preferences.mute(user.pk, "news", until=timezone.now() + timedelta(days=7))
    for category in ("export", "news"):
        notify(user, "During", category=category)
    assert not Notification.objects.filter(read_at=None).exists() and not Delivery.objects.exists()
    Preference.objects.update(off_until=timezone.now() - timedelta(seconds=1))
    for category in ("export", "news"):
        notify(user, "Afterwards", category=category)
    assert Notification.objects.filter(read_at=None).count() == Delivery.objects.count() == 2
    choices = preferences.read_choices([user.pk])
    assert choices == {(user.pk, "export", "bell"): "on", (user.pk, "export", "email"): "daily"}

"""What a test of deliveries sets up before it, for tests/support/driver.py."""

from django.contrib.auth import get_user_model

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.deliveries.models import PushSubscription
from notifications.times import now
from tests.support.site_actions import sign_in

User = get_user_model()


def create_users(count):
    """Create users with an e-mail address; return their keys, addresses and sessions."""
    users = [
        User.objects.create(username=f"reader{number}", email=f"reader{number}@users.example")
        for number in range(count)
    ]
    return [{"key": user.pk, "address": user.email, "session": sign_in(user)} for user in users]


def create_device(user, endpoint, p256dh, auth):
    device = PushSubscription.objects.create(
        user_id=user,
        endpoint=endpoint,
        p256dh=p256dh,
        auth=auth,
        name="Firefox on Linux",
        created_at=now(),
        seen_at=now(),
    )
    return str(device.id)


def create_webhook(user, url):
    webhooks.create(url, owner=User.objects.get(pk=user), events=["notification.created"])


def notify_all(title):
    """Notify all users that have an address."""
    notify(User.objects.exclude(email="").values_list("pk", flat=True), title)


def notify_users(users, title):
    """Notify users (keys), each by a transaction of its own."""
    for user in users:
        notify(User(pk=user), title)

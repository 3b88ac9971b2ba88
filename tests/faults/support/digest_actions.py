"""Digests of many users, for tests/support/driver.py."""

from django.contrib.auth import get_user_model

from notifications.api import notify
from notifications.contrib.deliveries import sending
from notifications.models import Job
from notifications.times import now

User = get_user_model()
#: Rows of one statement.
CHUNK = 500


def create_deliveries(count):
    """Notify so many new users of something that goes in a digest."""
    users = [User(username=f"reader{n}", email=f"reader{n}@users.example") for n in range(count)]
    User.objects.bulk_create(users, batch_size=CHUNK)
    notify([user.pk for user in users], "The export is ready", category="export")


def enqueue_due():
    """Enqueue the digests of all deliveries that are due, as the duty does."""
    while sending.enqueue_due():
        pass


def end_windows():
    """Have the windows of all digests end, a few hundred in a transaction."""
    ids = list(Job.objects.filter(run_after__gt=now()).values_list("pk", flat=True))
    for start in range(0, len(ids), CHUNK):
        Job.objects.filter(pk__in=ids[start : start + CHUNK]).update(run_after=now(), due_at=now())

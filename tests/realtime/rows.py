"""Functions that write notifications and jobs as the app does, with numbering and rings."""

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.inbox import read_numbered_position
from notifications.models import Job, Notification, Stream


def notices(user, count, **fields):
    """Create ``count`` notifications of a user in one transaction. Returns their ids."""
    with transaction.atomic():
        return [notify(user, f"note {number}", **fields)[0] for number in range(count)]


def job(user, **fields):
    """Create an active job of the user, by default queued now, and ring. Returns the row."""
    return jobs(user, 1, **fields)[0]


def jobs(user, count, **fields):
    """Create ``count`` active jobs, each queued a millisecond after the one before, and ring. Returns the rows."""
    now = timezone.now()
    rows = [
        Job(
            user=user,
            task_path="tests.tasks.work",
            backend="default",
            queue_name="default",
            **{
                "title": f"Work {number}",
                "created_at": now,
                "queued_at": now + timedelta(milliseconds=number),
                **fields,
            },
        )
        for number in range(count)
    ]
    with transaction.atomic():
        Job.objects.bulk_create(rows)
        streams.ring([user.pk])
    return rows


def change(row, **fields):
    """Change an active job, as a claim or a progress report does, and ring."""
    with transaction.atomic():
        Job.objects.filter(pk=row.pk).update(version=F("version") + 1, **fields)
        streams.ring([row.user_id])


def finish(row, state="succeeded", **fields):
    """Finish a job and number the change."""
    with transaction.atomic():
        Job.objects.filter(pk=row.pk).update(
            version=F("version") + 1, state=state, seq=None, finished_at=timezone.now(), **fields
        )
        streams.number([row.user_id])


def prune(user, seq):
    """Delete the user's notifications up to ``seq`` and raise the floor, as pruning does."""
    with transaction.atomic():
        Notification.objects.filter(user=user, seq__lte=seq).delete()
        Stream.objects.filter(pk=user).update(floor=seq)


def read_epoch():
    return read_numbered_position(0).epoch

"""Rows as the app's writers leave them: changed, numbered, rung."""

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from notifications import streams
from notifications.models import Job, Notification, Stream
from notifications.streams import inbox


def notices(user, count, **fields):
    """Notify a user so often, in one transaction. Returns the ids."""
    with transaction.atomic():
        return [inbox.create_notifications(user, f"note {number}", **fields)[0] for number in range(count)]


def job(user, **fields):
    """An active job of the user, queued now unless told otherwise."""
    return jobs(user, 1, **fields)[0]


def jobs(user, count, **fields):
    """So many active jobs, each queued later than the one before."""
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
    """Change an active job, as a claim or its progress does."""
    with transaction.atomic():
        Job.objects.filter(pk=row.pk).update(version=F("version") + 1, **fields)
        streams.ring([row.user_id])


def finish(row, state="succeeded", **fields):
    """End a job and number it."""
    with transaction.atomic():
        Job.objects.filter(pk=row.pk).update(
            version=F("version") + 1, state=state, seq=None, finished_at=timezone.now(), **fields
        )
        streams.number_in_transaction([row.user_id])


def prune(user, seq):
    """Delete everything up to ``seq``, as pruning does."""
    with transaction.atomic():
        Notification.objects.filter(user=user, seq__lte=seq).delete()
        Stream.objects.filter(pk=user).update(floor=seq)

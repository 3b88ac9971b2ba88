"""The changes of rows in the model, by writers, workers, users, operators and crashes."""

import uuid
from contextlib import nullcontext
from io import StringIO

from django.core.management import call_command
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.jobs.transitions import running
from notifications.models import Attempt, Epoch, Job, Notification, Stream
from notifications.streams import build_notification
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, record, release, succeeded

WORKER = uuid.uuid4()


def notify_users(users, count, key, end):
    """Notify "one by one", or in a transaction that is "committed", "rolled back", or "killed" before the numbering."""
    if end == "killed":
        rows = [build_notification(user.pk, f"left {nth}", key=key) for nth in range(count) for user in users]
        Notification.objects.bulk_create(rows)
        return
    with transaction.atomic() if end != "one by one" else nullcontext():
        for nth in range(count):
            notify(users, f"note {nth}", key=key)
        if end == "rolled back":
            transaction.set_rollback(True)


def enqueue_job(user):
    """Enqueue a job in a queue of its own."""
    tasks.noop.using(owner=user, queue_name=uuid.uuid4().hex[:20]).enqueue()


def advance_job(row, action):
    """Claim a queued job; apply the action to a running or failed one if its state allows it."""
    if row.state == "queued":
        claim_rows(WORKER, 1, queues=[row.queue_name])
    elif row.state == "running" and action == "progress":
        row.progress_current = (row.progress_current or 0) + 1
        running.store_progress([row])
    elif row.state == "running" and action == "release":
        release(row)
    elif row.state == "running" and action == "fail":
        record(failed(row, ValueError("broken")))
    elif row.state == "running":
        record(succeeded(row))
    elif row.state == "failed" and action == "retry":
        retry_job(row)


def retry_job(row):
    """Change the row as a manual retry does."""
    with transaction.atomic():
        Job.objects.filter(pk=row.pk, state="failed").update(
            state="queued",
            seq=0,
            version=F("version") + 1,
            fence=F("fence") + 1,
            max_attempts=F("max_attempts") + 3,
            queued_at=timezone.now(),
            finished_at=None,
            result=None,
            error=None,
        )
        streams.ring([row.user_id], queue=True)


def prune_all():
    """Delete all archived notifications and finished jobs."""
    call_command("notifications", "prune", days=0, stdout=StringIO())


def back_up(users):
    """Return the streams, notifications and jobs of users."""
    return [list(model.objects.filter(user__in=users)) for model in (Stream, Notification, Job)]


def restore(users, backup):
    """Replace the rows of users by those of a backup, and begin a new epoch."""
    with transaction.atomic():
        Attempt.objects.filter(job__in=Job.objects.filter(user__in=users).values("id")).delete()
        for model, rows in zip((Stream, Notification, Job), backup, strict=True):
            model.objects.filter(user__in=users).delete()
            model.objects.bulk_create(rows)
    Epoch.objects.all().delete()

"""Count the rows that ``retention.prune`` would delete, without deleting them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q

from notifications import times
from notifications.db.transactions import database
from notifications.models import Job, Notification, Tick
from notifications.streams.purging import find_deleted_users

#: Batches within batches that are looked up. Jobs of deeper ones count as kept.
MAX_BATCH_DEPTH = 3


def count_prunable(before: datetime) -> Iterator[tuple[str, int]]:
    """Yield what would be deleted, in the words of a message, and how many rows of it.

    Reads each old row, and streams in chunks. Raises ``django.db.Error``.
    """
    notifications = Notification.objects.using(database()).filter(seq__isnull=False)
    yield "archived notifications", notifications.filter(archived_at__lt=before).count()
    now = times.now()
    old = Job.objects.using(database()).filter(finished_at__lt=before, seq__isnull=False)
    old = old.exclude(idempotency_expires_at__gt=now)
    yield "finished jobs", old.filter(~Exists(_kept_batches(before, now, MAX_BATCH_DEPTH))).count()
    yield "ticks of schedules", Tick.objects.using(database()).filter(recorded_at__lt=before).count()
    count = 0
    for users in find_deleted_users():
        for model in (Job, Notification):
            count += model.objects.using(database()).filter(user__in=users).count()
    yield "jobs and notifications of deleted users", count


def _kept_batches(before: datetime, now: datetime, depth: int) -> Any:
    """Return the batch of an outer job if it stays, so that the job stays too."""
    is_kept = (
        Q(finished_at__isnull=True)
        | Q(finished_at__gte=before)
        | Q(seq__isnull=True)
        | Q(idempotency_expires_at__gt=now)
    )
    batches = Job.objects.using(database()).filter(id=OuterRef("batch"))
    if depth == 0:
        return batches
    return batches.filter(is_kept | Q(Exists(_kept_batches(before, now, depth - 1))))

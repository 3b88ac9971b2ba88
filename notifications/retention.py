"""Deletes what is old and done with. The floor of its stream rises with it, so that no client overlooks that."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from notifications import streams
from notifications.models import Attempt, Job, Notification
from notifications.transactions import connection, database, ours

#: Rows of one transaction at most, and seconds that SQLite's lock is left to others after it at least.
CHUNK, PAUSE = 100, 0.005


def prune(before: datetime) -> int:
    """Delete notifications archived, and jobs finished, before a time; return how many.

    What is unread, or read and not archived, stays. A client whose cursor is below a floor starts from a snapshot.
    Raises ``django.db.OperationalError`` when the database stays busy; what was deleted until then stays deleted.
    """
    deleted = 0
    while True:
        start = time.monotonic()
        count = ours(lambda: _prune_chunk(before))
        deleted += count
        if not count:
            return deleted
        if connection().vendor == "sqlite":
            time.sleep(max(PAUSE, time.monotonic() - start))


def _prune_chunk(before: datetime) -> int:
    jobs = _old(Job.objects.filter(finished_at__lt=before))
    notifications = _old(Notification.objects.filter(archived_at__lt=before))
    ids = [id for id, _, _ in jobs]
    Attempt.objects.using(database()).filter(job__in=ids).delete()
    Job.objects.using(database()).filter(id__in=ids).delete()
    Notification.objects.using(database()).filter(id__in=[id for id, _, _ in notifications]).delete()
    streams.raise_floors(_greatest([*jobs, *notifications]))
    return len(jobs) + len(notifications)


def _old(rows: Any) -> list[tuple[Any, Any, int]]:
    """Lock some rows that have their number, by id; those that somebody else holds are left for the next time."""
    rows = rows.using(database()).filter(seq__isnull=False)
    features = connection().features
    if features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True, no_key=features.has_select_for_no_key_update)
    return list(rows.order_by("id").values_list("id", "user_id", "seq")[:CHUNK])


def _greatest(rows: Iterable[tuple[Any, Any, int]]) -> dict[Any, int]:
    floors: dict[Any, int] = {}
    for _, user, seq in rows:
        if user is not None:
            floors[user] = max(seq, floors.get(user, 0))
    return floors

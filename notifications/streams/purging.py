"""Rows of users that were deleted.

A process killed between the deletion and its purge leaves everything, a job that notifies later leaves a stream:
``prune`` finds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import QuerySet

from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, connection, database, fair_atomic
from notifications.db.user_keys import to_db
from notifications.models import Stream
from notifications.streams import ring
from notifications.streams.numbering import lock

#: Streams of which one query asks whether their users exist.
MAX_STREAMS_PER_CHUNK = 500


def purge(user: Any) -> int:
    """Delete everything of a user (key) that was deleted; return how many rows of jobs and notifications."""
    deleted = 0
    while count := fair_atomic(lambda: purge_chunk(user)):
        deleted += count
    return deleted


def purge_chunk(user: Any) -> int:
    """Delete, inside a transaction, some rows of a user (key) that was deleted; at last the stream. Return how many."""
    key = to_db(user)
    with connection().cursor() as cursor:
        for table in ("notifications_job", "notifications_notification"):
            # Chosen first and then put in order: of many rows only these few are sorted.
            cursor.execute(
                f"SELECT id FROM {table} WHERE id IN "
                f"(SELECT id FROM {table} WHERE user_id = %s LIMIT {MAX_ROWS_PER_TRANSACTION}) ORDER BY id{lock()}",
                [key],
            )
            ids = [row[0] for row in cursor.fetchall()]
            if ids:
                marks = ", ".join(["%s"] * len(ids))
                if table == "notifications_job":
                    cursor.execute(f"DELETE FROM notifications_attempt WHERE job_id IN ({marks})", ids)
                cursor.execute(f"DELETE FROM {table} WHERE id IN ({marks})", ids)
                return len(ids)
        cursor.execute("DELETE FROM notifications_stream WHERE user_id = %s", [key])
    ring([user])
    return 0


def gone() -> Iterator[list[Any]]:
    """Yield the keys of users that do not exist any more and have a stream, those among a few streams at a time."""
    model, alias = get_user_model(), database()
    if router.db_for_write(model) != alias:
        return
    last = None
    while True:
        streams = Stream.objects.using(alias).order_by("user_id")
        if last is not None:
            streams = streams.filter(user_id__gt=last)
        keys = list(streams.values_list("user_id", flat=True)[:MAX_STREAMS_PER_CHUNK])
        # Read after the streams, as a user is there before a stream; by no manager of the host, which may hide some.
        there = set(QuerySet(model, using=alias).filter(pk__in=keys).values_list("pk", flat=True))
        yield [key for key in keys if key not in there]
        if len(keys) < MAX_STREAMS_PER_CHUNK:
            return
        last = keys[-1]

"""Delete the rows of deleted users.

A process that is killed between the deletion and the purge leaves all rows, and a job that notifies later leaves a
stream. ``prune`` finds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import QuerySet

from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, connection, database, fair_atomic
from notifications.db.user_keys import to_db
from notifications.models import OutputChunk, Stream
from notifications.streams import ring
from notifications.streams.numbering import lock_clause

#: Streams whose users one query looks up at most.
MAX_STREAMS_PER_CHUNK = 500
#: Chunks of output that one transaction deletes.
MAX_OUTPUT_PER_CHUNK = 1_000
#: Tables with few rows of a user.
TABLES_BY_USER = (
    *("delivery", "digest", "pushsubscription", "preference", "reader"),
    *("pendingmark", "announcedstate", "webhookendpoint", "seenmark", "stream"),
)
#: Columns of rows that stay, of other users or of nobody, and then name nobody. They would name the next user with that
#: key, and ``dumpdata`` with natural keys fails at a user who does not exist.
COLUMNS_OF_OTHERS = (("wait", "ended_by_id"), ("broadcast", "sender_id"))


def purge(user: Any) -> int:
    """Delete all rows of a deleted user (key); return the number of jobs and notifications among them."""
    deleted = 0
    while count := fair_atomic(lambda: purge_chunk(user)):
        deleted += count
    return deleted


def purge_chunk(user: Any) -> int:
    """Delete, inside a transaction, a chunk of the rows of a deleted user (key), the stream last.

    Returns the number of jobs or notifications, or of chunks of output, 0 when only the stream was left.
    """
    key = to_db(user)
    with connection().cursor() as cursor:
        for table in ("notifications_job", "notifications_notification"):
            # The inner query limits, the outer one sorts: of many rows only these few are sorted.
            chunk = f"SELECT id FROM {table} WHERE user_id = %s LIMIT {MAX_ROWS_PER_TRANSACTION}"
            cursor.execute(f"SELECT id FROM {table} WHERE id IN ({chunk}) ORDER BY id{lock_clause()}", [key])
            ids = [row[0] for row in cursor.fetchall()]
            if ids:
                marks = ", ".join(["%s"] * len(ids))
                if table == "notifications_job":
                    if count := delete_much_output(ids):
                        return count
                    cursor.execute(f"DELETE FROM notifications_attempt WHERE job_id IN ({marks})", ids)
                    for table_of_job in ("step", "wait", "jobcallback"):
                        cursor.execute(
                            f"DELETE FROM notifications_{table_of_job} WHERE job IN ({marks})", ids
                        )
                else:
                    cursor.execute(f"DELETE FROM notifications_delivery WHERE notification IN ({marks})", ids)
                cursor.execute(f"DELETE FROM {table} WHERE id IN ({marks})", ids)
                return len(ids)
        cursor.execute(
            "DELETE FROM notifications_webhookattempt WHERE endpoint IN "
            "(SELECT id FROM notifications_webhookendpoint WHERE user_id = %s)",
            [key],
        )
        for table, column in COLUMNS_OF_OTHERS:
            cursor.execute(f"UPDATE notifications_{table} SET {column} = NULL WHERE {column} = %s", [key])
        for table in TABLES_BY_USER:
            cursor.execute(f"DELETE FROM notifications_{table} WHERE user_id = %s", [key])
    ring([user])
    return 0


def delete_much_output(jobs: list[Any]) -> int:
    """Delete output of jobs (ids). Returns 0 if that was all, so that the jobs can be deleted in this transaction.

    Else the number of chunks that were deleted, of which one transaction deletes a bounded number.
    """
    chunks = OutputChunk.objects.using(database())
    ids = list(chunks.filter(job__in=jobs).values_list("id", flat=True)[:MAX_OUTPUT_PER_CHUNK])
    chunks.filter(id__in=ids).delete()
    return len(ids) if len(ids) == MAX_OUTPUT_PER_CHUNK else 0


def find_deleted_users() -> Iterator[list[Any]]:
    """Yield, for a chunk of streams at a time, the keys of the users that do not exist any more."""
    model, alias = get_user_model(), database()
    if router.db_for_write(model) != alias:
        return
    last = None
    while True:
        streams = Stream.objects.using(alias).order_by("user_id")
        if last is not None:
            streams = streams.filter(user_id__gt=last)
        keys = list(streams.values_list("user_id", flat=True)[:MAX_STREAMS_PER_CHUNK])
        # Read after the streams, because a user exists before the stream. Not by a manager of the host, which may hide
        # users.
        existing = set(QuerySet(model, using=alias).filter(pk__in=keys).values_list("pk", flat=True))
        yield [key for key in keys if key not in existing]
        if len(keys) < MAX_STREAMS_PER_CHUNK:
            return
        last = keys[-1]

"""Find and correct unread counts that are wrong, because another program has changed rows."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from notifications.db.transactions import connection, database, retrying_atomic
from notifications.db.user_keys import from_db, to_db
from notifications.models import Notification
from notifications.streams import number, ring
from notifications.streams.numbering import Pass


def find_wrong_counts() -> dict[Any, tuple[int, int]]:
    """Return the users (keys) whose unread count is wrong, each with the count and the right one.

    Reads all notifications.
    """
    with connection().cursor() as cursor:
        # One statement, so that both are from one snapshot. Pending rows are not counted yet, or are still counted.
        cursor.execute(
            "SELECT s.user_id, s.unread, coalesce(n.counted, 0) + coalesce(n.drift, 0) FROM notifications_stream s "
            "LEFT JOIN (SELECT user_id, sum(CASE WHEN counted THEN 1 ELSE 0 END) AS counted, "
            "sum(CASE WHEN seq IS NULL OR counted = (read_at IS NULL AND archived_at IS NULL) THEN 0 "
            "WHEN counted THEN -1 ELSE 1 END) AS drift "
            "FROM notifications_notification GROUP BY user_id) n ON n.user_id = s.user_id "
            "WHERE s.unread <> coalesce(n.counted, 0) OR coalesce(n.drift, 0) <> 0 ORDER BY s.user_id"
        )
        return {from_db(user): (unread, expected) for user, unread, expected in cursor.fetchall()}


def recount(user: Any) -> None:
    """Correct the unread count of a user (key)."""
    is_open = Q(read_at__isnull=True, archived_at__isnull=True)
    wrong = Notification.objects.using(database()).filter(
        (is_open & Q(counted=False)) | (~is_open & Q(counted=True)), user=user, seq__isnull=False
    )

    def mark_pending() -> None:
        # Numbering counts each of these rows, as if it had just changed. Locked rows are being numbered already.
        rows = wrong.order_by("id")
        if connection().features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True, no_key=True)
        Notification.objects.using(database()).filter(id__in=[row.id for row in rows.only("id")]).update(
            seq=None
        )

    def count() -> None:
        db = connection()
        with db.cursor() as cursor:
            Pass(cursor, db, [user]).lock_streams()
            cursor.execute(  # a statement after the lock: see ``Pass.run``
                "UPDATE notifications_stream SET unread = (SELECT count(*) FROM notifications_notification "
                "WHERE user_id = %s AND counted) WHERE user_id = %s",
                [to_db(user)] * 2,
            )
        ring([user])

    retrying_atomic(mark_pending)
    number([user])
    retrying_atomic(count)

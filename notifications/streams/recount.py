"""Find and correct unread and unseen counts that are wrong, because another program has changed rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db.models import Q

from notifications.db.transactions import connection, database, retrying_atomic
from notifications.db.user_keys import from_db, to_db
from notifications.models import Notification
from notifications.streams import number, ring
from notifications.streams.marking_seen import count_unseen_sql
from notifications.streams.numbering import Pass, unnumbered_index


class Counts(NamedTuple):
    """The counts of a stream."""

    unread: int
    unseen: int


class WrongCounts(NamedTuple):
    """Counts as they are stored, and as they should be."""

    stored: Counts
    expected: Counts


def find_wrong_counts(max_rows: int | None = None) -> dict[Any, WrongCounts]:
    """Return the users (keys) whose unread or unseen count is wrong, with their counts.

    ``max_rows``
        Reads at most so many streams and unread notifications, those of the first users, as many pending
        notifications, and a tenth as many of the newest ones, of which each must be counted if it is unread: quickly,
        however many notifications there are. By default all are read.
    """
    is_unread = "read_at IS NULL AND archived_at IS NULL"
    limit, newest, is_reached = "", "", "1 = 1"
    if max_rows is not None:
        limit, newest = f"LIMIT {max_rows}", f"ORDER BY id DESC LIMIT {max_rows // 10}"
        # Of the last user that was reached not all rows are known.
        is_reached = f"(reached.count < {max_rows} OR s.user_id < reached.last)"
    with connection().cursor() as cursor:
        # One statement, so that all are from one snapshot.
        cursor.execute(
            f"""
            WITH unread AS (
                SELECT user_id, raised FROM notifications_notification
                WHERE {is_unread} ORDER BY user_id, raised {limit}
            ), pending AS (
                SELECT user_id, raised,
                    CASE WHEN counted THEN 1 ELSE 0 END - CASE WHEN {is_unread} THEN 1 ELSE 0 END AS weight
                FROM notifications_notification{unnumbered_index("n")} WHERE seq IS NULL {limit}
            ), newest AS (
                SELECT user_id, seq, counted, {is_unread} AS is_unread FROM notifications_notification {newest}
            ), streams AS (
                SELECT user_id, unread, unseen, seen FROM notifications_stream ORDER BY user_id {limit}
            ), expected AS (
                SELECT n.user_id, sum(n.weight) AS unread,
                    sum(CASE WHEN n.raised > s.seen THEN n.weight ELSE 0 END) AS unseen
                FROM (SELECT user_id, raised, 1 AS weight FROM unread UNION ALL SELECT * FROM pending) n
                JOIN streams s ON s.user_id = n.user_id GROUP BY n.user_id
            ), reached AS (SELECT count(*) AS count, max(user_id) AS last FROM unread)
            SELECT s.user_id, s.unread, s.unseen, coalesce(e.unread, 0), coalesce(e.unseen, 0)
            FROM streams s CROSS JOIN reached LEFT JOIN expected e ON e.user_id = s.user_id
            WHERE {is_reached} AND (
                s.unread <> coalesce(e.unread, 0) OR s.unseen <> coalesce(e.unseen, 0) OR s.user_id IN (
                    SELECT user_id FROM newest WHERE seq IS NOT NULL AND counted <> is_unread
                )
            ) ORDER BY s.user_id
            """
        )
        rows: Iterable[tuple[Any, ...]] = cursor.fetchall()
    return {
        from_db(user): WrongCounts(Counts(unread, unseen), Counts(int(right_unread), int(right_unseen)))
        for user, unread, unseen, right_unread, right_unseen in rows
    }


def recount(user: Any) -> None:
    """Correct the unread and unseen counts of a user (key)."""
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
                "UPDATE notifications_stream SET "
                "unread = (SELECT count(*) FROM notifications_notification WHERE user_id = %s AND counted), "
                f"unseen = ({count_unseen_sql('notifications_stream.user_id', 'notifications_stream.seen')}) "
                "WHERE user_id = %s",
                [to_db(user)] * 2,
            )
        ring([user])

    retrying_atomic(mark_pending)
    number([user])
    retrying_atomic(count)

"""Muted categories: their notifications are recorded as read ones, so they are neither counted nor shown as toasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notifications import times
from notifications.db import bulk
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.db.user_keys import from_db, to_db
from notifications.models import MutedCategory, Notification

#: Categories that one user can mute.
MAX_MUTED_CATEGORIES = 100


class TooManyMutedCategories(Exception):
    """The user has muted ``MAX_MUTED_CATEGORIES`` categories."""


def mark_muted(rows: Sequence[Notification]) -> None:
    """Mark those of these unwritten notifications as read whose users have muted their categories.

    One query for all of them, none if they have no category. Call it for a chunk, before streams are locked.
    """
    categorized = [row for row in rows if row.category]
    if not categorized:
        return
    # Without a queryset, which prepares each user anew and made the recording of outcomes a tenth slower.
    of_users, users = bulk.where_in(
        MutedCategory, "user_id", sorted({to_db(row.user_id) for row in categorized})
    )
    of_categories, categories = bulk.where_in(
        MutedCategory, "category", sorted({row.category for row in categorized})
    )
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT user_id, category FROM notifications_mutedcategory WHERE {of_users} AND {of_categories}",
            [*users, *categories],
        )
        muted = {(from_db(user), category) for user, category in cursor.fetchall()}
    for row in categorized:
        row.read_at = row.created_at if (row.user_id, row.category) in muted else None


def mute(user: Any, category: str) -> None:
    """Mute a category for a user (key), from the next notification on. Raises ``TooManyMutedCategories``."""

    def change() -> None:
        rows = MutedCategory.objects.using(database())
        if rows.filter(user=user).count() >= MAX_MUTED_CATEGORIES:
            raise TooManyMutedCategories
        rows.bulk_create(
            [MutedCategory(user_id=user, category=category, created_at=times.now())], ignore_conflicts=True
        )

    retrying_atomic(change)


def unmute(user: Any, category: str) -> None:
    """Unmute a category for a user (key). Notifications that it has had meanwhile stay read."""
    rows = MutedCategory.objects.using(database()).filter(user=user, category=category)
    retrying_atomic(rows.delete)


def muted_categories(user: Any) -> list[str]:
    """Return the categories that a user (key) has muted, in alphabetical order."""
    rows = MutedCategory.objects.using(database()).filter(user=user).order_by("category")
    return list(rows.values_list("category", flat=True)[:MAX_MUTED_CATEGORIES])

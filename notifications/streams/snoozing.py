"""Snooze notifications: they leave the inbox, and are raised again at a time.

A snoozed notification is archived, so every list and client treats it as such. At its time it gets a new position, as
if it had just been created, and is unread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from notifications import streams, times
from notifications.db.clock import database_now, database_now_sql
from notifications.db.locks import lock_query
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, database, fair_atomic
from notifications.models import Notification
from notifications.streams.marking import Mark, Marked, change_rows
from notifications.streams.replaced import without_replaced

#: How far ahead a notification may be snoozed.
MAX_SNOOZE = timedelta(days=366)


def snooze(user: Any, ids: Collection[UUID], up_to: int, until: datetime) -> Marked:
    """Archive notifications of a user (key) that were raised up to ``up_to``, until a time.

    Open questions and what is archived already stay as they are.
    Raises ValueError if the time is not in the future, or over ``MAX_SNOOZE`` ahead.
    """
    now = times.now()
    if not now < until <= now + MAX_SNOOZE:
        raise ValueError(
            f"until is {until}. It must be in the future, and at most {MAX_SNOOZE.days} days ahead."
        )
    return change_rows(Mark(user=user, verb="archive", up_to=up_to, ids=ids, until=until))


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``raise_due`` may find something, and its parameters."""
    now, param = database_now_sql()
    return f"EXISTS (SELECT 1 FROM notifications_notification WHERE snoozed_until <= {now})", (param,)


def raise_due() -> bool:
    """Raise again notifications whose time has come. Returns whether there may be more.

    Those that other transactions hold locked are left to a later call, and hold up no others.
    """
    return fair_atomic(_raise_due)


def _raise_due() -> bool:
    now = database_now()
    rows = Notification.objects.using(database())
    due = rows.filter(snoozed_until__lte=now)
    # In the order of the index first: ordered by id all of them would be sorted.
    ids = list(due.order_by("snoozed_until").values_list("id", flat=True)[:MAX_ROWS_PER_TRANSACTION])
    found = lock_query(due.filter(id__in=ids).order_by("id"), skip_locked=True)
    locked = sorted(found.only("id", "user_id", "key", "raised"), key=lambda row: str(row.user_id))
    raised: list[UUID] = []
    for user, of_user in groupby(locked, lambda row: row.user_id):
        raised += [row.id for row in without_replaced(user, list(of_user))]
    rows.filter(id__in=[row.id for row in locked]).update(snoozed_until=None)
    # Without its position a row gets a new one, like one that was just inserted.
    rows.filter(id__in=raised).update(
        archived_at=None, read_at=None, created_at=now, raised=None, counted=False, seq=None
    )
    if raised:
        streams.number_in_transaction({row.user_id for row in locked})
    return len(ids) == MAX_ROWS_PER_TRANSACTION and bool(locked)

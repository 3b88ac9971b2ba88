"""Snooze notifications: they leave the inbox, and are raised again at a time.

A snoozed notification is archived, so every list and client treats it as such. At its time it gets a new position, as
if it had just been created, and is unread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull

from notifications import streams, times
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now, database_now_sql
from notifications.db.keyset import read_ids
from notifications.db.transactions import connection, database, fair_atomic, on_commit
from notifications.extension import RecordedTransaction, hooks
from notifications.models import Notification
from notifications.streams.marking import Mark, Marked, change_rows, without_replaced
from notifications.streams.numbering import Pass

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
    """Return SQL that is true if ``find_due`` finds something, and its parameters."""
    now, param = database_now_sql()
    return f"EXISTS (SELECT 1 FROM notifications_notification WHERE snoozed_until <= {now})", (param,)


def find_due() -> Iterator[UUID]:
    """Yield the ids of notifications whose time has come, those first whose time was first."""
    now, param = database_now_sql()
    # But those whose archiving has no number yet.
    yield from read_ids(Notification, f"snoozed_until <= {now} AND seq IS NOT NULL", [param], "snoozed_until")


def raise_due(ids: Collection[UUID]) -> None:
    """Raise again those of these notifications whose time has come, and that are not locked elsewhere."""
    rows = list(_due().filter(id__in=ids).only("id", "user_id", "key", "raised"))
    # Before the transaction, because it reads all that is newer. It is checked there again by the index of open keys.
    current: set[UUID] = set()
    due = sorted(rows, key=lambda row: str(row.user_id))
    for user, of_user in groupby(due, lambda row: row.user_id):
        current |= {row.id for row in without_replaced(user, list(of_user))}
    if due:
        fair_atomic(lambda: _raise([row.id for row in due], current), more_follows=True)


def _due() -> Any:
    """Return a queryset of the rows that are due, but those whose archiving has no number yet."""
    return Notification.objects.using(database()).filter(snoozed_until__lte=database_now(), seq__isnull=False)


def _raise(ids: Collection[UUID], current: Collection[UUID]) -> None:
    """Raise again those of these rows that are still due and archived, if they are among ``current``."""
    rows = Notification.objects.using(database())
    locked = list(
        lock_query(_due().filter(id__in=ids).order_by("id"), skip_locked=True).only(
            "id", "user_id", "key", "archived_at", "broadcast"
        )
    )
    rows.filter(id__in=[row.id for row in locked]).update(snoozed_until=None)
    found = [row for row in locked if row.id in current and row.archived_at is not None]
    tx = RecordedTransaction(now=database_now())
    staying = {id for hook in hooks.before_raised for id in hook(found, tx)} if found else set()
    found = [row for row in found if row.id not in staying]
    if not found:
        return
    users = sorted({row.user_id for row in found})
    db = connection()
    with db.cursor() as cursor:
        # A newer one with the key of one of them may be about to be numbered: it is read after its stream is locked.
        # Else this row, which gets a new position, would replace it.
        Pass(cursor, db, users).lock_streams()
    open_keys = _read_open_keys(users, {row.key for row in found if row.key})
    # Without its position a row gets a new one, like one that was just inserted.
    raised = {row.id for row in found if (row.user_id, row.key) not in open_keys}
    rows.filter(id__in=raised).update(
        archived_at=None, read_at=None, returned_at=tx.now, raised=None, seq=None
    )
    streams.number_in_transaction(users)
    if tx.kept:
        on_commit(lambda: hooks.call_after_commit(tx))


def _read_open_keys(users: Sequence[Any], keys: Collection[str]) -> set[tuple[Any, str]]:
    """Return the users (keys) and keys of unread notifications in their inboxes that have one of these keys."""
    if not keys:
        return set()
    owned = Notification.objects.using(database()).alias(owner=Coalesce("user_id", "user_id"))
    rows = owned.filter(IsNull(Coalesce("read_at", "archived_at"), True), owner__in=users, key__in=keys)
    return set(rows.exclude(key="").values_list("user_id", "key"))

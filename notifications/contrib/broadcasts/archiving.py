"""Withdraw the notifications of a broadcast: those that are unread are archived, in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from notifications import streams, times
from notifications.db.transactions import connection, fair_atomic
from notifications.models import Notification

#: Notifications that one transaction archives: of 100 it holds SQLite's lock for over 10 ms.
MAX_ROWS_PER_CHUNK = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class WithdrawnChunk:
    """What one chunk has done.

    ``archived``
        The number of notifications that it has archived.
    ``skipped``
        The number of those that another transaction had locked.
    ``position``
        The id of the last one that was read, None if there are no more.
    """

    archived: int
    skipped: int
    position: UUID | None


def withdraw_chunk(
    broadcast: UUID, after: UUID | None, *, store_count: Callable[[int], Any]
) -> WithdrawnChunk:
    """Archive the first unread notifications of a broadcast whose ids are above ``after``, and number them.

    ``store_count``
        Called in the same transaction with the number of notifications that are archived.

    A notification that is locked, because its user is reading it now, is skipped.
    """
    chunk, users = fair_atomic(lambda: _archive_chunk(broadcast, after, store_count), more_follows=True)
    if users:
        streams.number(users, more_follows=True)
    return chunk


def _archive_chunk(
    broadcast: UUID, after: UUID | None, store_count: Callable[[int], Any]
) -> tuple[WithdrawnChunk, set[Any]]:
    """Return the chunk, and the users (keys) of whom more rows may be pending."""
    db = connection()
    rows = Notification.objects.using(db.alias).filter(
        broadcast=broadcast, read_at__isnull=True, archived_at__isnull=True
    )
    following = rows if after is None else rows.filter(id__gt=after)
    ids = list(following.order_by("id").values_list("id", flat=True)[:MAX_ROWS_PER_CHUNK])
    lockable = rows.filter(id__in=ids)
    if db.features.has_select_for_update_skip_locked:
        lockable = lockable.select_for_update(skip_locked=True, no_key=True)
    # An UPDATE locks in no order, so the rows are locked first, by id.
    locked = dict(lockable.order_by("id").values_list("id", "user_id")) if ids else {}
    users = set(locked.values())
    is_full = False
    if locked:
        Notification.objects.using(db.alias).filter(id__in=locked).update(archived_at=times.now(), seq=None)
        store_count(len(locked))
        is_full = streams.number_in_transaction(users)
    chunk = WithdrawnChunk(
        archived=len(locked),
        skipped=len(ids) - len(locked),
        position=ids[-1] if len(ids) == MAX_ROWS_PER_CHUNK else None,
    )
    return chunk, users if is_full else set()
